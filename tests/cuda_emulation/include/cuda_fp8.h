// <cuda_fp8.h> of the emulation: conversions of E4M3 (1 sign, 4 exponent bits with bias 7, 3 mantissa bits;
// no infinity, 0x7f and 0xff are NaN, the largest number is 448), bit for bit those of the real one.
#pragma once

#include <bit>
#include <cmath>

#include "cuda_runtime.h"

using __nv_fp8_storage_t = unsigned char;
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3 };

// To nearest, ties to even; every NaN becomes 0x7f. Beyond 448: SATFINITE gives 448, NOSAT gives NaN.
inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float x, __nv_saturation_t saturate,
                                                __nv_fp8_interpretation_t) {
    const unsigned int bits = std::bit_cast<unsigned int>(x);
    const unsigned int magnitude = bits & 0x7fffffffu, sign = bits >> 31 << 7;
    if (magnitude > 0x7f800000u) return 0x7f;
    const float size = std::bit_cast<float>(magnitude);
    unsigned int code;
    if (size < 0x1p-6f)
        code = static_cast<unsigned int>(std::nearbyint(size * 0x1p9f));  // subnormal: multiples of 2^-9
    else  // three mantissa bits stay; the exponents' biases differ by 120
        code = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20) - (120u << 3);
    if (code > 0x7e) code = saturate == __NV_SATFINITE ? 0x7e : 0x7f;
    return static_cast<__nv_fp8_storage_t>(sign | code);
}

struct alignas(1) __nv_fp8_e4m3 {
    __nv_fp8_storage_t __x;

    __nv_fp8_e4m3() = default;
    explicit __nv_fp8_e4m3(float x) : __x(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3)) {}
    explicit operator float() const {
        const int exponent = __x >> 3 & 15, mantissa = __x & 7;
        if ((__x & 0x7f) == 0x7f) return NAN;
        const float size =
            exponent ? std::ldexp(8.0f + mantissa, exponent - 10) : std::ldexp(float(mantissa), -9);
        return __x & 0x80 ? -size : size;
    }
};
