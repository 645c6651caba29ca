// The natural logarithm for inner loops: branch-free, so that a loop over it is vectorised (float32 within 2
// ulp; float64 goes to the C library). Polynomial of the Cephes library (Moshier).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "framework/ops/top_k/inline.h"

namespace sieve::cpu {

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

}  // namespace sieve::cpu
