#!/usr/bin/env bash
# Runs every fuzz target on its corpus for so many seconds. Inputs that it finds worth keeping stay beside the targets, in
# new/FORMAT; one that breaks something is kept in faults/. Usage: tests/fuzz/run.sh FOLDER SECONDS [FORMAT]...
set -uo pipefail
targets=$(realpath "$1") seconds=$2
shift 2
cd "$(dirname "$0")"
formats=("$@")
(($# > 0)) || mapfile -t formats < <(basename -s .cpp formats/*.cpp)
mkdir -p "$targets/faults"
export OMP_NUM_THREADS=1
passed=0 failed=0
for format in "${formats[@]}"; do
    mkdir -p "$targets/new/$format" "$targets/seeds/$format" "corpus/$format"
    export SIEVE_FUZZ_SEEDS=$targets/seeds/$format
    # Inputs of 64 KiB may take 2 x 64 KiB + 64 MB; the sanitizers add to what a process holds, not to one allocation.
    if "$targets/fuzz_$format" -max_total_time="$seconds" -timeout=5 -max_len=65536 -malloc_limit_mb=64 -rss_limit_mb=1024 \
        -artifact_prefix="$targets/faults/$format-" -print_final_stats=1 "$targets/new/$format" "$targets/seeds/$format" "corpus/$format" \
        > "$targets/$format.log" 2>&1; then
        echo "fuzz_$format: $(sed -n 's/^stat::number_of_executed_units: *//p' "$targets/$format.log") inputs in $seconds s"
        passed=$((passed + 1))
    else
        echo "fuzz_$format: a fault; the log is $targets/$format.log"
        tail -n 40 "$targets/$format.log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
