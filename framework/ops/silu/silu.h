// SiLU (Elfwing et al. 2017), elementwise:  y = x s(x),  s(x) = 1 / (1 + e^-x)
//   dx = dy s(x) (1 + x (1 - s(x)))
// Saves x.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

Tensor silu(const Tensor& x);  // any shape, float32 or float64

}  // namespace sieve
