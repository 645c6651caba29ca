// A linear layer without bias: every row of x times the transposed weight.
//
//   y[r,n]  = sum_k x[r,k] W[n,k]            y  = x W^T
//   dx[r,k] = sum_n dy[r,n] W[n,k]           dx = dy W
//   dW[n,k] = sum_r dy[r,n] x[r,k]           dW = dy^T x
//
// Three calls of gemm.h, whose contract carries over: a row of y depends on its row of x alone, bit for bit.
// Saves x and W. No rows give dW = 0; K = 0 gives y = 0.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x [..., K], weight [N,K] (W above), both float32 or both float64 -> [..., N].
// Throws when x is a scalar, when weight has not 2 dims, and when the last dims, the dtypes or the
// devices differ.
Tensor linear(const Tensor& x, const Tensor& weight);

}  // namespace sieve
