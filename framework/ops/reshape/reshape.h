// The same elements under another shape.
//
//   y = x, dx = dy, element by element in row-major order
//
// Forward and backward are views: y shares x's storage. Saves nothing but the shape of x.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x of any dtype -> `shape`, which must hold as many elements; throws otherwise.
Tensor reshape(const Tensor& x, const Shape& shape);

}  // namespace sieve
