#!/usr/bin/env bash
# What tools/find_cuda.cmake decides, on machines made of a folder: with and without a GPU, nvidia-smi and nvcc.
set -uo pipefail
cd "$(dirname "$0")/.."
passed=0 failed=0
cmake=$(command -v cmake)
machine=$(mktemp -d)
trap 'rm -rf "$machine"' EXIT

tool() { # NAME LINE...: a program that prints these lines
    local name=$1
    shift
    { echo '#!/bin/sh'; printf "echo '%s'\n" "$@"; } > "$machine/$name"
    chmod +x "$machine/$name"
}
has() { # nvcc | gpu | nvidia-smi CAPABILITY...
    case $1 in
    nvcc) tool nvcc compute_75 compute_80 compute_90 ;;
    gpu) touch "$machine/nvidia0" ;;
    nvidia-smi) tool nvidia-smi "${@:2}" ;;
    esac
}
# decision WANT FLAG...: what the flags give on this machine contains WANT. Empties the machine.
decision() {
    local want=$1 nvcc=SIEVE_NVCC-NOTFOUND got
    shift
    [[ ! -x $machine/nvcc ]] || nvcc=$machine/nvcc
    # /usr/bin is for the tools' shell: a real nvidia-smi there is not seen.
    got=$(env -u CUDA_HOME -u CUDA_PATH PATH="$machine:/usr/bin:/bin" "$cmake" "$@" -DSIEVE_NVCC="$nvcc" -DSIEVE_GPU_FILES="$machine/nvidia[0-9]*" \
        -DCMAKE_SYSTEM_IGNORE_PATH="/usr/bin;/usr/local/cuda/bin" -P tools/find_cuda.cmake 2>&1)
    if [[ $got == *"$want"* ]]; then
        passed=$((passed + 1))
    else
        echo "tests/find_cuda.sh: $*: want \"$want\", got \"$got\""
        failed=$((failed + 1))
    fi
    rm -f "$machine"/*
}

has nvcc
decision "left out, no GPU here (to have it: make CUDA=1)"
decision "left out, no GPU here (to have it: install the CUDA toolkit (12.4 or newer), then make CUDA=1)"
has nvidia-smi 9.0
decision "left out, there is a GPU but no nvcc"
has nvcc && has gpu && has nvidia-smi 9.0
decision "for 90-real (this machine's GPU)"
has nvcc && has nvidia-smi 9.0 8.0 9.0
decision "for 80-real 90-real (this machine's GPU)"
has nvcc && has nvidia-smi 7.5
decision "left out, the kernels need compute capability 80 and this GPU has 75"
has nvcc && has nvidia-smi 12.0
decision "for 80-real 90 (the default, as this GPU's 120 is unknown to nvcc or too old)"
has nvcc && has gpu
decision "for 80-real 90 (the default, as nvidia-smi does not say which GPU is here)"
has nvcc && has gpu && has nvidia-smi "Failed to initialize NVML: Driver/library version mismatch"
decision "for 80-real 90 (the default, as nvidia-smi does not say"
has nvcc && has nvidia-smi 9.0
decision "left out, as asked (to have it: make CUDA=1)" -DSIEVE_CUDA=OFF
has nvcc
decision "for 80-real 90 (the default)" -DSIEVE_CUDA=ON
has nvcc && has nvidia-smi 9.0
decision "for 86-real (as asked)" -DSIEVE_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=86-real
decision "there is no nvcc" -DSIEVE_CUDA=ON
decision "SIEVE_CUDA is yes; want AUTO, ON or OFF" -DSIEVE_CUDA=yes
echo "$passed passed, $failed failed"
((failed == 0))
