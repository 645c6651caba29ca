// The products of two lists of matrices.
//
//   c[n]  = alpha a[n] op(b[n])         op(b) = b, or b^T when transpose_b
//   da[n] = alpha dc[n] op(b[n])^T      db[n] = alpha a[n]^T dc[n], or its transpose
//
// Calls of gemm.h, whose contract carries over: a row of c depends on its row of a and on its matrix of b
// alone. Saves a and b. An inner dim of 0 gives c = 0.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// a [N,M,K], b [N,K,P] or, when transpose_b, [N,P,K]; both float32 or both float64 -> [N,M,P].
// Throws unless both have 3 dims that fit and one dtype.
Tensor batched_matmul(const Tensor& a, const Tensor& b, bool transpose_b = false, double alpha = 1);

}  // namespace sieve
