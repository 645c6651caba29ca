// Dropout (Srivastava et al. 2014) and its fusions with what stands beside it in the model.
//
//   keep[i] = uniform(key, i) >= p          m[i] = keep[i] / (1 - p)
//   dropout:       y = m x                  dx = m dy
//   dropout_add:   y = residual + m x       dresidual = dy, dx = m dy
//   silu_dropout:  y = m silu(x)            dx = m dy silu'(x)
//
// uniform(key, i) is 24 bits of word i mod 4 of Philox block i / 4 (core/rng.h): the same on every device and
// thread count. The mask is not stored; the backward draws it again. silu_dropout saves x, the others
// nothing. p = 0 is the identity and draws nothing; p outside [0, 1) is an error.
#pragma once

#include "framework/core/rng.h"
#include "framework/core/tensor.h"

namespace sieve {

Tensor dropout(const Tensor& x, double p, RngKey key);
Tensor dropout_add(const Tensor& residual, const Tensor& x, double p, RngKey key);
Tensor silu_dropout(const Tensor& x, double p, RngKey key);

}  // namespace sieve
