#!/usr/bin/env bash
# Line coverage of the CPU tests, with the programs that they start, by folder. The bounds: 90 % of framework/, 95 % of
# framework/io. Left out is what only a CUDA device reaches: *.cu files, which are not compiled here, and the files of
# `device_only` (the tests on the emulated device, which are not counted, run both).
# Usage: tests/coverage.sh [FILTER]   (of test cases, as doctest's -tc wants it; bounds are then not checked)
set -euo pipefail
cd "$(dirname "$0")/.."
tree=build/coverage/tree
jobs=${JOBS:-$(nproc)}
device_only='framework/(core/cuda/.*|train/recorded_step\.(cpp|h)|.*\.cuh?)'
if ! command -v gcovr > /dev/null; then
    echo "tests/coverage.sh: skipped, there is no gcovr (Debian: gcovr)"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi
./tests/copy_tree.sh $tree
cmake -S $tree -B $tree/build -G Ninja -DSIEVE_CUDA=OFF -DSIEVE_COVERAGE=ON -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null 2>&1
cmake --build $tree/build -j "$jobs" --target all sieve_tests > build/coverage/log 2>&1 ||
    { grep -m 20 error: build/coverage/log; exit 1; }
find $tree/build -name '*.gcda' -delete
status=0
# What a program that was killed had written of its counts is torn: others say so, which is no message of theirs. And the
# counters take memory that nobody announces.
(cd $tree && GCOV_ERROR_FILE=$PWD/build/gcov_errors build/sieve_tests ${1:+-tc="$1"} \
    -tce='process memory: what is announced*') || status=$?
# Objects of tests are left out by the filter.
(cd $tree && gcovr -j "$jobs" --root . --filter 'framework/' --filter 'models/' --exclude "$device_only" \
    --exclude-throw-branches --gcov-ignore-parse-errors --csv build/coverage.csv build/CMakeFiles)
awk -F, -v bounds="${1:+no}" '
    NR == 1 { next }
    {
        split($1, part, "/")
        folder = part[1] == "models" ? "models" : part[1] "/" part[2]
        lines[folder] += $2; ran[folder] += $3
        if (part[1] == "framework") { lines["framework"] += $2; ran["framework"] += $3 }
    }
    END {
        for (folder in lines) printf "%-24s %6d lines  %5.1f %%\n", folder, lines[folder], 100 * ran[folder] / lines[folder] | "sort"
        close("sort")
        if (!lines["framework"] || !lines["framework/io"]) { print "no line was counted"; print "0 passed, 1 failed"; exit 1 }
        all = 100 * ran["framework"] / lines["framework"]; io = 100 * ran["framework/io"] / lines["framework/io"]
        if (bounds == "no") exit
        printf "coverage: framework %.1f %% (want 90), io %.1f %% (want 95)\n", all, io
        low = (all < 90) + (io < 95)
        printf "%d passed, %d failed\n", 2 - low, low
        exit low > 0
    }' $tree/build/coverage.csv || status=1
exit $status
