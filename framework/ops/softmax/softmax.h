// Softmax over the last dim.
//
//   y[i,j]  = exp(x[i,j] - max_l x[i,l]) / sum_l exp(x[i,l] - max_l x[i,l])
//   dx[i,j] = y[i,j] (dy[i,j] - sum_l dy[i,l] y[i,l])
//
// Saves y. An entry of -inf gives exactly 0; a row of nothing but -inf gives NaN, as in PyTorch.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

Tensor softmax(const Tensor& x);  // [..., width], width >= 1

}  // namespace sieve
