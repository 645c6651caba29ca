// LayerNorm over the last dim (Ba, Kiros and Hinton 2016).
//
//   m[i] = mean_j x[i,j]         r[i] = 1 / sqrt(mean_j (x[i,j] - m[i])^2 + eps)
//   n[i,j] = (x[i,j] - m[i]) r[i]
//   y    = n g + b
//
//   dx   = r (g dy - mean_j(g dy) - n mean_j(g dy n))
//   dg   = sum_i dy n            db = sum_i dy
//
// Saves x, g, m and r.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x [..., width], weight (g) and bias (b) [width], one dtype -> [..., width]. Throws when width is 0.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps = 1e-6);

}  // namespace sieve
