// Elementwise sum of two tensors of one shape.
//
//   y = a + b      da = dy, db = dy
//
// Saves nothing; the backward hands the arriving gradient on without a copy.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// a and b of one shape, both float32 or both float64. No broadcasting. Throws when shapes,
// dtypes or devices differ.
Tensor add(const Tensor& a, const Tensor& b);

}  // namespace sieve
