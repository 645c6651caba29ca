#include "framework/blas/bf16_rounding.h"

namespace sieve::cpu {
namespace {

SIEVE_INLINE float nearest(float x) {
    return __builtin_bit_cast(float, bf16_bits(__builtin_bit_cast(uint32_t, x)) << 16);
}

}  // namespace

SIEVE_CLONES void round_steps(float* panel, int64_t width, int64_t steps) {
    for (int64_t l = 0; l + 1 < steps; l += 2) {
        float* __restrict even = panel + l * width;
        float* __restrict odd = even + width;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) {
            const float x = nearest(even[j]);
            even[j] = nearest(odd[j]);
            odd[j] = x;
        }
    }
    if (steps % 2)
        for (int64_t j = (steps - 1) * width; j < steps * width; ++j) panel[j] = nearest(panel[j]);
}

}  // namespace sieve::cpu
