#!/bin/sh
# install_packages.sh PACKAGE...: makes sure that the Debian packages are there. Installs the missing ones when run
# as root (or where sudo needs no password); otherwise prints the command to run and fails.
set -u
command -v dpkg-query > /dev/null 2>&1 || exit 0 # not Debian: CMake will name what it does not find

missing=""
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

run=""
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2> /dev/null; then
        echo "Some packages are missing. Please run:" >&2
        echo "    sudo apt-get install$missing" >&2
        exit 1
    fi
    run="sudo -n"
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # lists of words
if ! { $run apt-get install -y -qq --no-install-recommends $missing ||
    { $run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends $missing; }; } > /tmp/sieve-apt.log 2>&1; then
    tail -n 5 /tmp/sieve-apt.log >&2
    echo "Installing failed. Please run: apt-get install$missing" >&2
    exit 1
fi
