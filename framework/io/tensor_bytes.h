// The elements of tensors as they stand in files.
#pragma once

#include <cstdint>
#include <string_view>

#include "framework/core/tensor.h"

namespace sieve {

// The elements of a CPU tensor as they go into a file; throws for a tensor on another device.
std::string_view bytes_of(const Tensor& tensor);
// A new tensor with these bytes as its elements; `bytes` has exactly the size that shape and dtype ask for.
Tensor tensor_from_bytes(std::string_view bytes, const Shape& shape, DType dtype);

// Narrow floats have no dtype of their own here: files that hold them are read as float32, exactly. float8_e4m3
// is OCP's E4M3 (Micikevicius et al., "FP8 formats for deep learning", 2022): no infinities, NaN is S.1111.111.
enum class NarrowFloat { float16, bfloat16, float8_e4m3 };
constexpr size_t bytes_of(NarrowFloat format) {
    return format == NarrowFloat::float8_e4m3 ? 1 : 2;
}
// The element at bytes[at...]; the caller has checked that it lies inside.
float float_from_narrow(std::string_view bytes, size_t at, NarrowFloat format);
// All elements of `bytes` into as many floats.
void floats_from_narrow(std::string_view bytes, NarrowFloat format, float* into);
Tensor tensor_from_narrow(std::string_view bytes, const Shape& shape, NarrowFloat format);
// The nearest number of a 16-bit format, the even one of two; what is too large becomes an infinity, NaN stays NaN.
uint16_t half_from_float(float value, NarrowFloat format);

}  // namespace sieve
