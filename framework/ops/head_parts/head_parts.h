// Taking rows apart along the last dim, and moving the rows of attention heads: heads outermost
// for attention, side by side in a token for the projections.
//
//   split_last:  first[..,j] = x[..,j] for j < n         rest[..,j] = x[..,n+j]
//                dx = [dfirst | drest]
//   join_heads:  y[b,h,t,:] = [a[b,t,h,:] | c[b,t,h,:]]
//                da[b,t,h,:], dc[b,t,h,:] = the parts of dy[b,h,t,:]
//   merge_heads: y[b,t,h*n + j] = x[b,h,t,j]             dx[b,h,t,j] = dy[b,t,h*n + j]
//
// Copies; nothing is saved. A gradient that did not arrive counts as zeros.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

struct SplitRows {
    Tensor first;  // [..., n]
    Tensor rest;   // [..., W - n]
};

// x [..., W], float32 or float64. Throws unless 0 <= n <= W.
SplitRows split_last(const Tensor& x, int64_t n);

// a [B,T,H,m], c [B,T,H,n], both float32 or both float64 -> [B,H,T,m+n].
Tensor join_heads(const Tensor& a, const Tensor& c);

// x [B,H,T,n], float32 or float64 -> [B,T,H*n].
Tensor merge_heads(const Tensor& x);

}  // namespace sieve
