// A tensor times a constant.
//
//   y = factor * x      dx = factor * dy
//
// Saves nothing. The factor is rounded once to x's dtype.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x of any shape, float32 or float64 -> same shape.
Tensor scale(const Tensor& x, double factor);

}  // namespace sieve
