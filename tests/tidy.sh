#!/usr/bin/env bash
# clang-tidy with the checks of .clang-tidy over the C++ sources of framework/ and models/, and the headers that they
# include. Usage: tests/tidy.sh [SOURCE]...   (default: all of them)
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-tidy > /dev/null; then
    echo "tests/tidy.sh: skipped, there is no clang-tidy (Debian: clang-tidy libomp-dev)"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi
cmake -S . -B build/tidy -G Ninja -DSIEVE_CUDA=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON > /dev/null 2>&1
cmake --build build/tidy --target sieve_commit > /dev/null # the one header that a build writes
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
export failures

check() {
    local output
    # Clang does not know GCC's -Wno-restrict.
    output=$(clang-tidy -p build/tidy --quiet --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option \
        "$1" 2> /dev/null) && return
    echo "$1:"
    echo "$output"
    echo "$1" >> "$failures"
}
export -f check

sources=("$@")
(($# > 0)) || mapfile -t sources < <(find framework models -name '*.cpp' | sort)
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
failed=$(wc -l < "$failures")
echo "$((${#sources[@]} - failed)) passed, $failed failed"
((failed == 0))
