// RMSNorm over the last dim (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
//
//   r[i]    = 1 / sqrt(mean_j(x[i,j]^2) + eps)
//   y[i,j]  = x[i,j] * r[i] * g[j]
//
//   dx[i,j] = r[i] * (g[j] dy[i,j] - x[i,j] r[i]^2 * mean_l(x[i,l] g[l] dy[i,l]))
//   dg[j]   = sum_i dy[i,j] x[i,j] r[i]
//
// Saves x, g and r (one number a row). Rows of an empty tensor: none, and dg is 0.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x [..., width], weight [width] (g above), both float32 or both float64 -> [..., width].
// PyTorch's nn.RMSNorm default is eps = 1.1920929e-07, the machine epsilon of float32.
// Throws when width is 0, shapes, dtypes or devices differ.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps = 1.1920929e-07);

}  // namespace sieve
