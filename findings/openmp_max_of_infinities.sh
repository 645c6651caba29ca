#!/usr/bin/env bash
# clang 22.1.8 as ziglang 0.17.1 from PyPI has it (clang 14 of Debian 12 alike), beside the machine's g++ (seen with
# 12.2.0 on 2026-11-30)
#
# A loop with `#pragma omp simd reduction(max : x)`, or a parallel one, over floats that are all -infinity, x beginning
# at -infinity: each lane's own maximum begins at the least number of the type. Which that is, clang and GCC see
# differently, and the loop's result is larger than every number it was given.
#
#                          max of -inf, -inf, ...    min of inf, inf, ...
#   without the pragma     -inf                      inf
#   g++                    -inf                      inf
#   clang                  -3.40282e+38              3.40282e+38
#
# Nothing has to be vectorised for it: -O1 does the same.
#
# Why it matters: rows of scores that are masked altogether. A softmax whose maximum is -3.4e38 has the sum 0 and gives
# 0 / 0 or, guarded against -inf alone, zeros; looking up where the maximum stands finds nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: ziglang==0.17.1 || exit 2
cat > "$folder/extremes.cpp" <<'CPP'
#include <cmath>
#include <cstdio>
int main() {
    volatile float given = -INFINITY;
    float row[5];
    for (float& x : row) x = given;
    float most = row[0], least = -row[0];
#ifdef SIMD
#pragma omp simd reduction(max : most) reduction(min : least)
#endif
    for (int i = 0; i < 5; ++i) {
        most = most < row[i] ? row[i] : most;
        least = -row[i] < least ? -row[i] : least;
    }
    std::printf("%g %g\n", most, least);
}
CPP
export ZIG_GLOBAL_CACHE_DIR="$folder/cache" ZIG_LOCAL_CACHE_DIR="$folder/cache"
check() { # WANTED FLAG COMPILER...
    local wanted=$1 flag=$2 seen
    shift 2
    "$@" -O1 -fopenmp-simd "$flag" "$folder/extremes.cpp" -o "$folder/extremes" 2> /dev/null || exit 2
    seen=$("$folder/extremes")
    echo "${1##*/} $flag: $seen"
    [[ $seen == "$wanted" ]] || { echo "changed: this was $wanted" >&2 && exit 1; }
}
clang=("$folder/venv/bin/python" -m ziglang c++ -fno-sanitize=undefined)
check "-inf inf" -DPLAIN "${clang[@]}"
check "-3.40282e+38 3.40282e+38" -DSIMD "${clang[@]}"
! command -v g++ > /dev/null || check "-inf inf" -DSIMD g++
