// The product of two matrices.
//
//   c  = a b       c[i,j] = sum_l a[i,l] b[l,j]
//   da = dc b^T    db = a^T dc
//
// Three calls of gemm.h, whose contract carries over: c[i,j] depends on row i of a and column j of b alone,
// bit for bit. Saves a and b. An inner dim of 0 gives c = 0.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// a [M,K], b [K,N], both float32 or both float64 -> [M,N].
// Throws unless both have 2 dims, the inner dims agree and the dtypes too.
Tensor matmul(const Tensor& a, const Tensor& b);

}  // namespace sieve
