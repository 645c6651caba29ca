#include "framework/io/tensor_bytes.h"

#include <bit>
#include <cmath>
#include <cstring>

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

}  // namespace

float float_from_half(uint16_t bits, HalfFormat format) {
    return format == HalfFormat::float16 ? float_from_float16(bits) : float_from_bfloat16(bits);
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

Tensor tensor_from_halves(std::string_view bytes, const Shape& shape, HalfFormat format) {
    const Tensor tensor = Tensor::empty(shape, DType::float32);
    if (static_cast<int64_t>(bytes.size()) != 2 * tensor.numel())
        fail("io: " + std::to_string(bytes.size()) + " bytes for a 16-bit tensor " + to_string(shape));
    float* data = tensor.data<float>();
    for (int64_t i = 0; i < tensor.numel(); ++i)
        data[i] = float_from_half(number_at<uint16_t>(bytes, static_cast<size_t>(2 * i)), format);
    return tensor;
}

}  // namespace sieve
