#!/usr/bin/env bash
# Templates over the width of vectors run as they should only where they are inlined into run_best's functions, which
# are compiled for the machine's instructions (framework/core/vectors.h). One that GCC left outside gives the same
# numbers, several times slower, so that no other test sees it. Here it is a symbol of the library.
set -euo pipefail
cd "$(dirname "$0")/.."
symbols=$(nm -C --defined-only build/libsieve.so 2> /dev/null | grep ' [tTwW] ' || true)
if [[ $(uname -m) == x86_64 ]] && ! grep -qE 'run_(32|64)_bytes<' <<< "$symbols"; then
    echo "tests/inlined_kernels.sh: build/libsieve.so has no kernel for AVX2 or AVX-512; build it first (make)"
    echo "0 passed, 1 failed"
    exit 1
fi
# KernelSet's functions have their instructions named at each of them, and its numbers are bytes.
outside=$(grep -E 'sieve::cpu::.*<(float|double), (16|8|4|2)[,>]' <<< "$symbols" |
    grep -vE 'run_best<|run_(32|64)_bytes<|KernelSet<' || true)
if [[ -n $outside ]]; then
    echo "not inlined into a kernel for the machine's vectors (SIEVE_INLINE or SIEVE_INLINE_LAMBDA is missing):"
    echo "$outside" | cut -c 20-
    echo "0 passed, 1 failed"
    exit 1
fi
echo "1 passed, 0 failed"
