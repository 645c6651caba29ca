// <cuda_bf16.h> of the emulation: conversions only, bit for bit those of the real one. Conversions are
// explicit here, and there is no arithmetic, so that what compiles means the same on the device.
#pragma once

#include <bit>

#include "cuda_runtime.h"

struct __nv_bfloat16_raw {
    unsigned short x;
};

struct alignas(2) __nv_bfloat16 {
    __nv_bfloat16() = default;
    __nv_bfloat16(const __nv_bfloat16_raw& raw) : bits_(raw.x) {}
    explicit __nv_bfloat16(float x);
    operator __nv_bfloat16_raw() const { return {bits_}; }
    explicit operator float() const { return std::bit_cast<float>(static_cast<unsigned int>(bits_) << 16); }

  private:
    unsigned short bits_;
};
using nv_bfloat16 = __nv_bfloat16;

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;

    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 first, __nv_bfloat16 second) : x(first), y(second) {}
};
using nv_bfloat162 = __nv_bfloat162;

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) {
    return static_cast<__nv_bfloat16_raw>(x).x;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return __nv_bfloat16_raw{bits};
}

// To nearest, ties to even; every NaN becomes 0x7fff.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const unsigned int bits = std::bit_cast<unsigned int>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return __nv_bfloat16_raw{0x7fff};
    return __nv_bfloat16_raw{static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float x) {
    return __float2bfloat16_rn(x);
}
inline float __bfloat162float(__nv_bfloat16 x) {
    return static_cast<float>(x);
}
inline __nv_bfloat16::__nv_bfloat16(float x) : __nv_bfloat16(__float2bfloat16_rn(x)) {}

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
    return __floats2bfloat162_rn(v.x, v.y);
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
    return {x, y};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
    return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
inline float __low2float(__nv_bfloat162 v) {
    return __bfloat162float(v.x);
}
inline float __high2float(__nv_bfloat162 v) {
    return __bfloat162float(v.y);
}
