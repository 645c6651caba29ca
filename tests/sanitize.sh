#!/usr/bin/env bash
# The CPU tests under the address, leak and undefined-behaviour sanitizers.
# Usage: tests/sanitize.sh [FILTER]   (of test cases, as doctest's -tc wants it)
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/sanitize
jobs=${JOBS:-$(nproc)}
export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:${ASAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$PWD/tests/leaks.suppressions:print_suppressions=0:${LSAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"

# A leak of which nothing is said would pass here unseen, as under a debugger or in a container without ptrace.
mkdir -p $build
printf 'int main() { volatile char* p = new char[8]; p = nullptr; }\n' > $build/leak.cpp
g++ -fsanitize=address $build/leak.cpp -o $build/leak
status=0
$build/leak > $build/log 2>&1 || status=$?
if ((status == 0)) || ! grep -q 'detected memory leaks' $build/log; then
    echo "tests/sanitize.sh: a planted leak is not found here: $(head -1 $build/log)"
    echo "0 passed, 1 failed"
    exit 1
fi
cmake -S . -B $build -G Ninja -DSIEVE_CUDA=OFF -DSIEVE_SANITIZE=ON -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null
cmake --build $build -j "$jobs" --target sieve_tests mutation_tests > $build/log 2>&1 || { grep -m 20 error: $build/log; exit 1; }
[[ -z ${1:-} ]] || exec $build/sieve_tests -tc="$1"
exec ./tests/run.sh ./$build/sieve_tests ./$build/tests/fuzz/mutation_tests
