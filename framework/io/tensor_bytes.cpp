#include "framework/io/tensor_bytes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "framework/core/error.h"
#include "framework/io/little_endian.h"

namespace sieve {
namespace {

float float_from_float16(uint16_t bits) {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
    if (exponent == 31)
        return std::bit_cast<float>((bits & 0x8000u) << 16 | 0x7F800000u |
                                    static_cast<uint32_t>(fraction) << 13);
    return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

float float_from_bfloat16(uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float float_from_e4m3(uint8_t bits) {
    const int exponent = (bits >> 3) & 15, fraction = bits & 7;
    const float sign = bits & 0x80 ? -1.0f : 1.0f;
    if (exponent == 15 && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -9);
    return sign * std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

// An integer of 32 bits without its last `drop` bits, rounded to the nearest, the even one of two.
uint32_t drop_bits(uint32_t value, int drop) {
    const uint32_t half = (1u << drop) >> 1, odd = value >> drop & 1u;
    return (value + half - 1 + odd) >> drop;
}

uint16_t bfloat16_from_float(uint32_t bits) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return static_cast<uint16_t>(bits >> 16 | 0x40u);  // NaN stays one
    return static_cast<uint16_t>(drop_bits(bits, 16));
}

uint16_t float16_from_float(uint32_t bits) {
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    constexpr uint32_t infinity = 0x7C00u, smallest_normal = 113u << 23;  // 2^-14
    if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
    if (magnitude < smallest_normal) {
        const float steps = std::bit_cast<float>(magnitude) * std::ldexp(1.0f, 24);  // of 2^-24: exact
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(steps)));
    }
    const uint32_t rounded = drop_bits(magnitude - (112u << 23), 13);
    return static_cast<uint16_t>(sign | std::min(rounded, infinity));
}

}  // namespace

float float_from_narrow(std::string_view bytes, size_t at, NarrowFloat format) {
    if (format == NarrowFloat::float8_e4m3) return float_from_e4m3(number_at<uint8_t>(bytes, at));
    const auto bits = number_at<uint16_t>(bytes, at);
    return format == NarrowFloat::float16 ? float_from_float16(bits) : float_from_bfloat16(bits);
}

void floats_from_narrow(std::string_view bytes, NarrowFloat format, float* into) {
    const size_t count = bytes.size() / bytes_of(format);
    switch (format) {
        case NarrowFloat::bfloat16:
            for (size_t i = 0; i < count; ++i)
                into[i] = float_from_bfloat16(number_at<uint16_t>(bytes, 2 * i));
            return;
        case NarrowFloat::float16:
            for (size_t i = 0; i < count; ++i)
                into[i] = float_from_float16(number_at<uint16_t>(bytes, 2 * i));
            return;
        case NarrowFloat::float8_e4m3:
            for (size_t i = 0; i < count; ++i) into[i] = float_from_e4m3(number_at<uint8_t>(bytes, i));
            return;
    }
}

uint16_t half_from_float(float value, NarrowFloat format) {
    const auto bits = std::bit_cast<uint32_t>(value);
    return format == NarrowFloat::float16 ? float16_from_float(bits) : bfloat16_from_float(bits);
}

std::string_view bytes_of(const Tensor& tensor) {
    if (!tensor.device().is_cpu())
        fail("io: a tensor on " + to_string(tensor.device()) +
             " must be copied to the cpu before it is written");
    return {static_cast<const char*>(tensor.raw()), static_cast<size_t>(tensor.bytes())};
}

Tensor tensor_from_bytes(std::string_view bytes, const Shape& shape, DType dtype) {
    const Tensor tensor = Tensor::empty(shape, dtype);
    if (static_cast<int64_t>(bytes.size()) != tensor.bytes())
        fail("io: " + std::to_string(bytes.size()) + " bytes for a tensor " + to_string(shape) + " of " +
             name_of(dtype));
    if (!bytes.empty()) std::memcpy(tensor.raw(), bytes.data(), bytes.size());
    return tensor;
}

Tensor tensor_from_narrow(std::string_view bytes, const Shape& shape, NarrowFloat format) {
    const Tensor tensor = Tensor::empty(shape, DType::float32);
    const size_t size = bytes_of(format);
    if (bytes.size() != size * static_cast<size_t>(tensor.numel()))
        fail("io: " + std::to_string(bytes.size()) + " bytes for a tensor " + to_string(shape) + " of " +
             std::to_string(8 * size) + " bits an element");
    floats_from_narrow(bytes, format, tensor.data<float>());
    return tensor;
}

}  // namespace sieve
