#!/usr/bin/env bash
# What tools/first_gpu_run does in a folder whose programs, make and nvidia-smi are stand-ins: it goes on where it
# stopped, skips what the machine lacks, says what failed, and writes the page between its marks alone.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{tools,docs,build,experiments,deps,bin}
cp tools/first_gpu_run "$tree/tools/"
echo abc1234 > "$tree/COMMIT"
page=$tree/docs/gpu.md

program() { # PATH LINE...: a program of these lines
    printf '%s\n' '#!/bin/sh' "${@:2}" > "$tree/$1"
    chmod +x "$tree/$1"
}
run() { # ARGUMENT...: sets output and code
    output=$(env -u CUDA_HOME PATH="$tree/bin:/usr/bin:/bin" "$tree/tools/first_gpu_run" "$@" 2>&1)
    code=$?
}
expect() { # WHAT CONDITION...
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        echo "tests/first_gpu_run.sh: $what; exit code $code, output:"
        echo "$output"
        failed=$((failed + 1))
    fi
}
ended_with() { [[ $code == "$1" && $output == *"$2"* ]]; }
row() { grep -qF "| $1 | $2 |" "$page"; }
not_a_row() { ! row "$@"; }

new_page() { printf 'before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n' > "$page"; }
new_page
program bin/python3 'exit 1'
program bin/nvidia-smi 'exit 9'
run
expect "without a GPU it says so" ended_with 2 "no GPU here"
expect "and leaves the page" grep -qx old "$page"

program bin/nvidia-smi 'echo "Some GPU, 1024 MiB, 1.2"'
program bin/make 'echo ran >> made'
program build/sieve_tests 'echo "3 passed, 0 failed"'
program experiments/exp4 'echo "exp4 $*" >> trained'
program tools/bench 'sleep 1; echo "classic  1.5 ms/step (fastest)"; echo "sparse  2.5 ms/step (fastest)"'
program tools/bench_kernels 'echo "a kernel failed"; exit 1'
program tools/profile_efficiency 'sleep 30'
run nonsense
expect "an unknown step is refused" ended_with 2 "no step nonsense"
run --minutes 0
expect "a piece of no length is refused" ended_with 2 "want a positive number"

run --minutes 0.2
expect "what does not fit in a piece is left" ended_with 75 "of 14 steps are left"
expect "and has not passed" not_a_row "classic and sparse to 65,536 tokens, bf16" "passed | "
expect "what passed is on the page" row "medium training step, fp32" "passed | classic 1.5 ms/step, sparse 2.5 ms/step"
expect "tests with their figure" row "every op and training step against the CPU" "passed | 3 passed, 0 failed"
expect "what failed too" row "each op, bf16" "FAILED | a kernel failed"
expect "what the machine lacks was skipped" row "beside torch.compile, bf16" "skipped | no PyTorch that sees the GPU (tests/pytorch/make_torch_venv.sh makes one)"
expect "the GPU is named" grep -q 'Some GPU, 1024 MiB, driver 1.2; commit `abc1234`' "$page"
expect "the rest of the page stands" test "$(sed -n '1p;$p' "$page" | paste -sd' ')" == "before after"
expect "the old text is gone" test "$(grep -cx old "$page")" == 0

run --minutes 0.04 efficiency
expect "a step that a whole piece does not hold fails" ended_with 1 "takes more than a piece of 0.04 minutes"
rm "$tree"/build/first_gpu_run/efficiency.state
program tools/profile_efficiency 'echo "lengths"'
run --minutes 0.2
expect "the next piece ends what was left, and says that a step failed" ended_with 1 "written to"
expect "it built once" test "$(wc -l < "$tree/made")" == 1
expect "and trained once" test "$(grep -c medium "$tree/trained")" == 1
expect "the interrupted step has passed" row "classic and sparse to 65,536 tokens, bf16" "passed | "
expect "its output is on the page, once" test "$(grep -cx lengths "$page")" == 1

program tools/bench_kernels 'echo "all kernels"'
run --minutes 0.1 kernels_fp32 kernels_bf16
expect "named steps run again" ended_with 0 "each op, bf16"
run --minutes 0.2
expect "then all is well" ended_with 0 "written to"
echo def5678 > "$tree/COMMIT"
program bin/make 'exit 1'
run --minutes 0.2
expect "another commit begins anew; without programs nothing runs" ended_with 1 "builds for this GPU"
expect "and nothing of the old commit is shown as its own" row "medium training step, fp32" "not run | "
echo no marks > "$page"
run
expect "a page without marks is refused" ended_with 2 "to write between"

echo "$passed passed, $failed failed"
exit $((failed > 0))
