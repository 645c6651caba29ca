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

// 16-bit floats have no dtype of their own here: files that hold them are read as float32, exactly.
enum class HalfFormat { float16, bfloat16 };
float float_from_half(uint16_t bits, HalfFormat format);
Tensor tensor_from_halves(std::string_view bytes, const Shape& shape, HalfFormat format);

}  // namespace sieve
