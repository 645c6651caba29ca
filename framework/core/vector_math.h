// Elementary functions that a compiler can vectorise: no branch, no table, no library call. A scalar use and
// a vectorised one in the same function clone (core/simd.h) give the same bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "framework/core/simd.h"

namespace sieve {

// e^x within 2 units in the last place. e^0 is exactly 1, e^-inf exactly 0, NaN stays NaN. Results below the
// smallest normal number are 0, those beyond the largest finite one are infinite.
//
//   e^x = 2^n * e^r,  n = round(x / ln 2),  r = x - n ln 2 in [-0.35, 0.35], e^r by a polynomial
//
// Adding 1.5 * 2^23 (2^52) rounds to an integer and leaves it in the low bits of the number. The power of two
// is added to the exponent bits: a product with 2^128 would overflow where e^r < 1 still fits.
SIEVE_INLINE float simd_exp(float x) {
    constexpr float low = -87.33654f, high = 88.72283f, round = 12582912.0f;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const float y =
        std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23));
    return x < low ? 0.0f : (x <= high ? y : x + std::numeric_limits<float>::infinity());
}

SIEVE_INLINE double simd_exp(double x) {
    constexpr double low = -708.396418532264, high = 709.782712893383, round = 6755399441055744.0;
    const double shifted = x * 1.4426950408889634 + round;
    const double n = shifted - round;
    const double r = (x - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
    double p = 1.0 / 6227020800.0;  // Taylor to r^13
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    const double y =
        std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(shifted) << 52));
    return x < low ? 0.0 : (x <= high ? y : x + std::numeric_limits<double>::infinity());
}

// 1 / (1 + e^-x)
template <class T>
SIEVE_INLINE T simd_sigmoid(T x) {
    return T(1) / (T(1) + simd_exp(-x));
}

// The natural logarithm for inner loops: branch-free, so that a loop over it is vectorised (float32 within 2
// ulp; float64 goes to the C library). Polynomial of the Cephes library (Moshier).
// x > 0 and normal.
SIEVE_INLINE float loop_log(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x) - 0x3f3504f3u;  // exponent 0 for [sqrt(1/2), sqrt(2))
    const float e = static_cast<float>(static_cast<int32_t>(bits) >> 23);
    const float m = std::bit_cast<float>((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    const float square = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return e * 0.693359375f + (m + (p * m * square + e * -2.12194440e-4f - 0.5f * square));
}
SIEVE_INLINE double loop_log(double x) {
    return std::log(x);
}

// d silu / dx, given x.
template <class T>
SIEVE_INLINE T silu_slope(T x) {
    const T s = simd_sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
}

}  // namespace sieve
