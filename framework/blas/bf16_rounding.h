// Private to this room.
// float32 rounded to bfloat16 as the processors' own instruction does it (VCVTNEPS2BF16): to nearest, ties to
// even; what is subnormal in float32 becomes zero of its sign; a NaN stays one and is made quiet.
#pragma once

#include <cstdint>

#include "framework/core/simd.h"

namespace sieve::cpu {

// The 16 bits of the bfloat16, from the 32 of the float.
SIEVE_INLINE uint32_t bf16_bits(uint32_t bits) {
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t number = magnitude < 0x00800000 ? bits >> 16 & 0x8000 : nearest;
    return magnitude > 0x7f800000 ? bits >> 16 | 0x40 : number;
}

// A panel [steps, width] of float32: rounds its numbers, and lets step 2l + 1 come before step 2l, which is
// the order in which vdpbf16ps adds them (bf16_gemm.cpp).
void round_steps(float* panel, int64_t width, int64_t steps);

}  // namespace sieve::cpu
