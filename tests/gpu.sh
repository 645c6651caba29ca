#!/usr/bin/env bash
# The tests that need a GPU: every op against the CPU, the training step, and the same under the four tools of
# compute-sanitizer, when the CUDA toolkit on this machine has it. Usage: tests/gpu.sh [path of sieve_tests]
set -uo pipefail
tests=${1:-build/sieve_tests}
root=$(cd "$(dirname "$0")/.." && pwd)
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
commands=("$tests --devices=cuda -ts=device")
if [[ -x $sanitizer ]]; then
    # Thousands of times slower than without: the ops on their own, the training runs left out.
    for tool in memcheck racecheck initcheck synccheck; do
        commands+=("SIEVE_SMALL_CASES=1 $sanitizer --tool $tool --error-exitcode 99 --print-limit 5 $tests --devices=cuda -ts=device -tce='training*'")
    done
else
    echo "compute-sanitizer is not here: memcheck, racecheck, initcheck and synccheck are left out"
fi
exec "$root/tests/run.sh" "${commands[@]}"
