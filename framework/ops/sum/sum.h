// The sum of all elements.
//
//   y = sum_i x[i]      dx[i] = dy
//
// Accumulated in float64 in fixed chunks whose sums are added in order: the bits do not depend on the number
// of threads, and a float32 sum is rounded once. Saves nothing but the shape of x. An empty x gives 0.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x of any shape, float32 or float64 -> a scalar of the same dtype.
Tensor sum(const Tensor& x);

}  // namespace sieve
