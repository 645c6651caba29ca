#!/usr/bin/env bash
# Runs every fuzz target on its samples and its corpus for so many seconds, one target a core. Inputs that it finds worth
# keeping stay beside the targets, in new/FORMAT; one that breaks something is kept in faults/.
# Usage: tests/fuzz/run.sh FOLDER SECONDS [FORMAT]...
set -uo pipefail
targets=$(realpath "$1") seconds=$2
shift 2
cd "$(dirname "$0")"
formats=("$@")
(($# > 0)) || mapfile -t formats < <(basename -s .cpp formats/*.cpp)
mkdir -p "$targets/faults"
export OMP_NUM_THREADS=1 targets seconds

fuzz() { # FORMAT
    local format=$1 corpus=("$targets/new/$1" "$targets/seeds/$1")
    mkdir -p "${corpus[@]}"
    [[ ! -d corpus/$format ]] || corpus+=("corpus/$format")
    # Inputs of 64 KiB may take 2 x 64 KiB + 64 MB; the sanitizers add to what a process holds, not to one allocation.
    if SIEVE_FUZZ_SEEDS=$targets/seeds/$format "$targets/fuzz_$format" -max_total_time="$seconds" -timeout=5 -max_len=65536 \
        -malloc_limit_mb=64 -rss_limit_mb=1024 -artifact_prefix="$targets/faults/$format-" -print_final_stats=1 \
        "${corpus[@]}" > "$targets/$format.log" 2>&1; then
        echo "fuzz_$format: $(sed -n 's/^stat::number_of_executed_units: *//p' "$targets/$format.log") inputs in $seconds s"
        return
    fi
    echo "fuzz_$format: a fault; the log is $targets/$format.log"
    grep -E -m 1 'ERROR|runtime error' "$targets/$format.log"
    tail -n 20 "$targets/$format.log"
}
export -f fuzz

lines=$(printf '%s\n' "${formats[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}' | tee /dev/stderr)
passed=$(grep -c '^fuzz_.* inputs in ' <<< "$lines")
failed=$((${#formats[@]} - passed))
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
