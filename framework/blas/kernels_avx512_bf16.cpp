// One vdpbf16ps adds a pair to each of 16 sums:  c = fma(a1, b1, c), then c = fma(a0, b0, c). Subnormal operands
// count as zero and subnormal results become zero; rounding is to nearest even, whatever MXCSR says (Intel 64
// and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS; bits compared with that model, with 0
// differences, on Sapphire Rapids and on Zen 5: tests/blas/bf16_test.cpp). An element of C is one such chain over
// the pairs of a k_block.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "framework/blas/kernels.h"
#include "framework/core/vectors.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>

// After the headers: whatever they define inline must stay runnable everywhere.
#pragma GCC target("arch=x86-64-v4,avx512bf16")
// In the order of their needs.
// clang-format off
#include "framework/blas/kernels_inl.h"
#include "framework/blas/pair_packing_inl.h"
#include "framework/blas/avx512_bf16_inl.h"
// clang-format on

namespace sieve::cpu {

const PairKernels& pair_kernels_avx512_bf16() {
    static const PairKernels set =
        PairPacking<64, 2, InstructionRounding>::kernels("AVX512_BF16", 12, 1, DotProductTile<12, 2>::tile);
    return set;
}

}  // namespace sieve::cpu
#endif
