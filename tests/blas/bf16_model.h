// Scalar models of what processors compute in bfloat16, written from their manuals and not from our kernels: the
// oracle of the products' bits, on any machine.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace sieve::testing {

inline uint32_t bits_of(float x) {
    return std::bit_cast<uint32_t>(x);
}
inline float float_of(uint32_t bits) {
    return std::bit_cast<float>(bits);
}

// Subnormal numbers become zero, of their sign.
inline float flushed(float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

// VCVTNEPS2BF16: the nearer of the two neighbours in bfloat16, of two that are as near the even one.
inline uint16_t bf16_of(float x) {
    if (std::isnan(x)) return static_cast<uint16_t>(bits_of(x) >> 16 | 0x40);
    const uint32_t below = bits_of(flushed(x)) >> 16, above = below + 1;
    if (std::isinf(x) || float_of(below << 16) == flushed(x)) return static_cast<uint16_t>(below);
    // In double, where the neighbour of the largest bfloat16 is 2^128 and not infinity.
    const double low = float_of(below << 16);
    const double high = above % 0x8000 == 0x7f80 ? std::copysign(0x1p128, x) : double{float_of(above << 16)};
    const double to_low = std::abs(double{x} - low), to_high = std::abs(double{x} - high);
    const bool take_low = to_low < to_high || (to_low == to_high && below % 2 == 0);
    return static_cast<uint16_t>(take_low ? below : above);
}
inline uint32_t pair_of(float even, float odd) {
    return bf16_of(even) | static_cast<uint32_t>(bf16_of(odd)) << 16;
}
inline float low_half(uint32_t pair) {
    return float_of(pair << 16);
}
inline float high_half(uint32_t pair) {
    return float_of(pair & 0xffff0000);
}

// One rounding; subnormal operands and results are zeros.
inline float flushed_fma(float a, float b, float c) {
    return flushed(std::fma(flushed(a), flushed(b), flushed(c)));
}
inline float flushed_sum(float a, float b) {
    return flushed(flushed(a) + flushed(b));
}

// VDPBF16PS, one lane: the odd product first.
inline float dot_product_step(float c, uint32_t a, uint32_t b) {
    return flushed_fma(low_half(a), low_half(b), flushed_fma(high_half(a), high_half(b), c));
}
// What it is not: the even product first.
inline float dot_product_step_even_first(float c, uint32_t a, uint32_t b) {
    return flushed_fma(high_half(a), high_half(b), flushed_fma(low_half(a), low_half(b), c));
}

// TDPBF16PS, one element: a's row and b's column of `pairs` pairs, b's `stride` words apart.
inline float tile_step(float c, const uint32_t* a, const uint32_t* b, int64_t pairs, int64_t stride) {
    float even = 0, odd = 0;
    for (int64_t l = 0; l < pairs; ++l) {
        even = flushed_fma(low_half(a[l]), low_half(b[l * stride]), even);
        odd = flushed_fma(high_half(a[l]), high_half(b[l * stride]), odd);
    }
    return flushed_sum(c, flushed_sum(even, odd));
}

}  // namespace sieve::testing
