#!/usr/bin/env bash
# The tests of the threaded parts under ThreadSanitizer. GCC's OpenMP runtime is not instrumented, and every wait in it
# would look like a race; so this is built by clang, with LLVM's runtime, which tells the sanitizer through its tool
# Archer what waits for what. Usage: tests/tsan.sh [FILTER]   (of test cases, as doctest's -tc wants it)
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/tsan
jobs=${JOBS:-$(nproc)}

skip() {
    echo "tests/tsan.sh: skipped, $* (Debian: clang libomp-dev)"
    echo "0 passed, 0 failed, 1 skipped"
    exit
}

command -v clang++ > /dev/null || skip "there is no clang++"
archer=$(clang++ -print-file-name=libarcher.so)
[[ -f $archer ]] || archer=$(find /usr/lib/llvm-*/lib -name libarcher.so 2> /dev/null | sort -V | tail -1)
[[ -f $archer ]] || skip "there is no libarcher.so"
export OMP_TOOL_LIBRARIES=$archer
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 ${TSAN_OPTIONS:-}"
export OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive

# Whether this machine's tools tell a race from none: without Archer every loop is one, and with a runtime that is not
# watched none is.
mkdir -p $build
cat > $build/probe.cpp << 'END'
#include <cstdio>
int main() {
    long sum = 0;
#pragma omp parallel for num_threads(4)
    for (long i = 0; i < 100000; ++i) {
#ifndef RACE
#pragma omp atomic
#endif
        sum += i;
    }
    std::printf("%ld\n", sum);
}
END
for race in "" -DRACE; do
    clang++ -fopenmp -fsanitize=thread -g -O1 $race $build/probe.cpp -o $build/probe 2> $build/log ||
        skip "clang++ cannot link ThreadSanitizer: $(head -1 $build/log)"
    status=0
    $build/probe > $build/log 2>&1 || status=$?
    if [[ -z $race && $status != 0 ]] || [[ -n $race && $status != 66 ]]; then
        head -20 $build/log
        echo "tests/tsan.sh: a program ${race:+with}${race:-without} a race ended with status $status"
        echo "0 passed, 1 failed"
        exit 1
    fi
done
echo "a planted race is found, its mended form is clean"

cmake -S . -B $build -G Ninja -DSIEVE_CUDA=OFF -DSIEVE_SANITIZE=thread -DCMAKE_CXX_COMPILER=clang++ \
    -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DSIEVE_TESTS='/tests/(attention|autograd|blas|core|data|nn|ops|optim|train)/' > /dev/null
cmake --build $build -j "$jobs" --target sieve_tests > $build/log 2>&1 || { grep -m 20 error: $build/log; exit 1; }
# Every op with threads has a test that compares thread counts; the rest runs its parts in threads as they come.
exec $build/sieve_tests ${1:+-tc="$1"}
