#!/bin/sh
# Makes data/corpus/ (data/README.md says what it holds) from two Debian packages, which it downloads and unpacks but
# does not install. Does nothing when the corpus is there. Whatever goes wrong costs one line and no failure: without
# the corpus the programs use data/excerpt/.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 0
corpus=$here/corpus
prepare=${PREPARE_CORPUS:-$here/../tools/prepare_corpus}
set -- r-cran-janeaustenr sword-comm-tdavid # the packages

say() { echo "corpus     $1"; }
say_size() { say "data/corpus, $(cat "$corpus"/*.txt | wc -c) bytes of public-domain prose"; }
if [ -e "$corpus/complete" ]; then
    say_size
    exit 0
fi

work=$(mktemp -d) || exit 0
trap 'rm -rf "$work"' EXIT
trap 'exit 0' HUP INT TERM
give_up() {
    say "$1; the programs will use data/excerpt (again: make corpus)"
    exit 0
}

[ -x "$prepare" ] || give_up "tools/prepare_corpus is not built"
{ command -v apt-get && command -v dpkg; } > /dev/null || give_up "no apt-get and dpkg here to fetch it with"
cd "$work" || exit 0
fetch() { timeout 300 apt-get -qq -o Acquire::Retries=0 download "$@" > log 2>&1; }
# A bare machine has no package lists, another one old ones. Updating them takes root, and time when there is no
# network; so it is done only when that is what is missing.
lists_are_missing() { grep -qE 'Unable to locate|Can.t (find|select)|No packages found|404 ' log; }
fetch "$@" || { lists_are_missing && timeout 120 apt-get -qq update > log 2>&1 && fetch "$@"; } ||
    give_up "cannot download $*"
for package in *.deb; do dpkg -x "$package" unpacked 2> /dev/null || give_up "cannot unpack $package"; done
"$prepare" austen unpacked/usr/lib/R/site-library/janeaustenr/data texts 2> log || give_up "$(cat log)"
"$prepare" spurgeon unpacked/usr/share/sword/modules/comments/zcom/tdavid texts 2> log || give_up "$(cat log)"
(cd texts && sha256sum --quiet -c "$here/corpus.sha256") > log 2>&1 ||
    give_up "the texts are not those of data/corpus.sha256 (another package version?)"
{ mkdir -p "$corpus" && mv texts/*.txt "$corpus" && touch "$corpus/complete"; } 2> /dev/null ||
    give_up "cannot write $corpus"
say_size
