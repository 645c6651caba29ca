// SwiGLU's gate (Shazeer, "GLU variants improve transformer", 2020), elementwise:  y = silu(gate) up
//
//   silu(g) = g s(g),   s(g) = 1 / (1 + e^-g)
//   dgate   = dy up s(gate) (1 + gate (1 - s(gate)))       dup = dy silu(gate)
//
// Saves gate and up.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// gate and up of one shape, both float32 or both float64. No broadcasting. Throws when shapes, dtypes
// or devices differ.
Tensor swiglu(const Tensor& gate, const Tensor& up);

}  // namespace sieve
