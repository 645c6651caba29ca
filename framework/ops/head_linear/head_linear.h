// A linear layer of its own for every head. Head h's weight W_h [N,C] is the rows [first, first + N) of its
// block of R rows in a shared matrix [H R, C].
//
//   head_linear:             y[..,h,n] = sum_c x[..,h,c] W_h[n,c]         y_h = x_h W_h^T      C -> N
//   head_linear_transposed:  y[..,h,c] = sum_n x[..,h,n] W_h[n,c]         y_h = x_h W_h        N -> C
//
// Each is the gradient of the other with respect to x:
//   dx_h = dy_h W_h          dW_h = dy_h^T x_h         of head_linear
//   dx_h = dy_h W_h^T        dW_h = x_h^T dy_h         of head_linear_transposed
// The rows of a block that are not read have gradient 0.
//
// Multi-head latent attention (DeepSeek-V2, 2024, section 2.1.2) absorbs the key up-projection into the
// queries by the second, and brings latent outputs back to values by the first. Calls of gemm.h, whose
// contract carries over: a row of y depends on its row of x alone, bit for bit. Saves x and the matrix.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

struct HeadRows {
    int64_t first, count;
};

// x [B,T,H,C], weight [H R, C], both float32 or both float64 -> [B,T,H,N].
// Throws when H does not divide the rows of weight, the rows lie outside [0, R), last dims, dtypes
// or devices differ.
Tensor head_linear(const Tensor& x, const Tensor& weight, HeadRows rows);
// x [B,T,H,N] -> [B,T,H,C].
Tensor head_linear_transposed(const Tensor& x, const Tensor& weight, HeadRows rows);

}  // namespace sieve
