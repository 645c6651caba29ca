#!/usr/bin/env bash
# The programs share one library: linked with the framework each, ten of them took 600 MB with CUDA. And they find it
# wherever they are started from, and after the tree was moved.
set -uo pipefail
cd "$(dirname "$0")/.."
passed=0 failed=0
check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        echo "tests/build_size.sh: $what"
        failed=$((failed + 1))
    fi
}

programs=()
for source in experiments/*.cpp tools/*.cpp; do programs+=("${source%.cpp}"); done
at_most_120_megabytes() {
    local bytes
    bytes=$(cat build/libsieve.so "${programs[@]}" | wc -c)
    echo "programs and library: $((bytes / 1000000)) MB"
    ((bytes > 0 && bytes <= 120000000))
}
# In a copy of the tree, from another working directory.
runs_when_moved() { (cd / && "$moved/experiments/exp4" --help > /dev/null); }
library_of() { ldd "$1" | grep -o '/[^ ]*libsieve\.so'; }
shares_the_library() { [[ $(realpath "$(library_of "$1")") == "$(realpath build/libsieve.so)" ]]; }

moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
mkdir -p "$moved/build" "$moved/experiments"
cp build/libsieve.so "$moved/build"
cp experiments/exp4 "$moved/experiments"

check "build first (make): a program is missing, or all together they have more than 120 MB" at_most_120_megabytes
for program in "${programs[@]}"; do check "$program does not use build/libsieve.so" shares_the_library "$program"; done
check "a moved exp4 does not start" runs_when_moved
check "a moved exp4 does not use the library beside it" test "$(library_of "$moved/experiments/exp4")" -ef "$moved/build/libsieve.so"
echo "$passed passed, $failed failed"
((failed == 0))
