// Private to this room.
// The number formats of quantize_rows.h, one number at a time, on bits: the CPU and the device run this same
// code. No branch, so that loops over it are vectorised.
#pragma once

#include <cstdint>

#include "framework/core/rng.h"  // SIEVE_HOST_DEVICE
#include "framework/quantization/row_format.h"

namespace sieve {

constexpr uint32_t infinity_bits = 0x7f800000, nan_bits = 0x7fc00000;

SIEVE_HOST_DEVICE inline uint32_t bits_of(float x) {
    return __builtin_bit_cast(uint32_t, x);
}
SIEVE_HOST_DEVICE inline float float_of(uint32_t bits) {
    return __builtin_bit_cast(float, bits);
}

// |x| as bits, which are in the order of the numbers; infinity and NaN are the largest.
SIEVE_HOST_DEVICE inline uint32_t magnitude_bits(float x) {
    return bits_of(x) & 0x7fffffff;
}

// Beyond 448 it saturates; NaN gives 0x7f.
SIEVE_HOST_DEVICE inline uint8_t encode_e4m3(float x) {
    constexpr uint32_t largest = 0x43e00000;      // 448
    constexpr uint32_t least_normal = 121 << 23;  // 2^-6
    constexpr float units = 16384;                // in [2^14, 2^15) floats are multiples of 2^-9
    const uint32_t magnitude = magnitude_bits(x);
    const uint32_t bits = magnitude < largest ? magnitude : largest;
    const uint32_t normal = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
    const uint32_t small = bits_of(float_of(bits) + units) - bits_of(units);
    const uint32_t code = bits < least_normal ? small : normal;
    const uint32_t sign = bits_of(x) >> 24 & 0x80;
    return static_cast<uint8_t>(magnitude > infinity_bits ? 0x7f : code | sign);
}

SIEVE_HOST_DEVICE inline float decode_e4m3(uint8_t code) {
    const uint32_t low = code & 0x7f;
    const float normal = float_of((low << 20) + (120u << 23));
    const float small = static_cast<float>(low) * (1.0f / 512);
    const float value = low < 8 ? small : normal;
    const float number = low == 0x7f ? float_of(nan_bits) : value;
    return code & 0x80 ? -number : number;
}

SIEVE_HOST_DEVICE inline float nearest_bf16(float x) {
    const uint32_t bits = bits_of(x);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    return magnitude_bits(x) > infinity_bits ? x : float_of(rounded);
}

// What a row's largest |y|, as bits, makes of the row.
struct RowScale {
    float scale;
    float divisor;  // fp8: 1 / scale, a power of two as well; int8: scale. 0: all codes are 0
};

SIEVE_HOST_DEVICE inline RowScale row_scale(uint32_t largest, RowFormat format) {
    constexpr float least_normal = 0x1p-126f;
    if (largest >= infinity_bits) return {float_of(nan_bits), 0};
    if (format == RowFormat::int8) {
        const float scale = float_of(largest) / 127;
        if (scale < least_normal) return {0, 0};
        return {scale, scale};
    }
    if (largest == 0) return {0, 0};
    // 448 = 1.75 * 2^8
    const int exponent =
        static_cast<int>(largest >> 23) - 127 - 8 + ((largest & 0x7fffff) > 0x600000 ? 1 : 0);
    const int e = exponent < -126 ? -126 : exponent;
    return {float_of(static_cast<uint32_t>(127 + e) << 23), float_of(static_cast<uint32_t>(127 - e) << 23)};
}

// y / scale is at most 127, and adding 1.5 * 2^23 leaves an integer in the low bits of the sum.
SIEVE_HOST_DEVICE inline uint8_t encode_int8(float y, float scale) {
    constexpr float units = 12582912;
    return static_cast<uint8_t>(bits_of(y / scale + units) - bits_of(units));
}

}  // namespace sieve
