// exp and its kin as branch-free arithmetic, so that loops around them vectorise (libm's cannot be). A lane
// of a vector and a scalar call give the same bits as long as both are compiled into the same function clone.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace sieve {

// Within 2 ulp of e^x. Below -87.3 exactly 0 (no denormals), above 88.7 infinity, NaN stays NaN.
inline float simd_exp(float x) {
    float c = x < -87.3f ? -87.3f : x;
    c = c > 88.7f ? 88.7f : c;
    const float rounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    const float shifted = c * 1.44269504089f + rounder;
    const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(rounder);
    const float n = shifted - rounder;
    // x = n ln 2 + r with ln 2 in two parts, so that r keeps its low bits.
    const float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    // 2^power in two factors: power can be 128, which one float's exponent cannot hold.
    const int32_t half = power >> 1;
    const float low = std::bit_cast<float>((half + 127) << 23);
    const float high = std::bit_cast<float>((power - half + 127) << 23);
    const float y = p * low * high;
    const float bounded = x > 88.7f ? std::numeric_limits<float>::infinity() : y;
    return x < -87.3f ? 0.0f : bounded;
}

inline double simd_exp(double x) {
    double c = x < -708.0 ? -708.0 : x;
    c = c > 709.7 ? 709.7 : c;
    const double rounder = 6755399441055744.0;  // 1.5 * 2^52
    const double shifted = c * 1.4426950408889634074 + rounder;
    const int64_t power = std::bit_cast<int64_t>(shifted) - std::bit_cast<int64_t>(rounder);
    const double n = shifted - rounder;
    const double r = (c - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
    // Taylor to r^13: |r| <= 0.347, so the next term is below 1e-17.
    double p = 1.0 / 6227020800.0;
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
    p = p * r * r + r + 1.0;
    const int64_t half = power >> 1;
    const double low = std::bit_cast<double>((half + 1023) << 52);
    const double high = std::bit_cast<double>((power - half + 1023) << 52);
    const double y = p * low * high;
    const double bounded = x > 709.7 ? std::numeric_limits<double>::infinity() : y;
    return x < -708.0 ? 0.0 : bounded;
}

// 1 / (1 + e^-x)
template <class T>
inline T simd_sigmoid(T x) {
    return T(1) / (T(1) + simd_exp(-x));
}

}  // namespace sieve
