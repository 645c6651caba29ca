// Taking rows apart along the last dim, and putting the parts of attention heads together, heads outermost.
//
//   split_last:  first[..,j] = x[..,j] for j < n         rest[..,j] = x[..,n+j]
//                dx = [dfirst | drest]
//   join_heads:  y[b,h,t,:] = [a[b,t,h,:] | c[b,t,h,:]]
//                da[b,t,h,:], dc[b,t,h,:] = the parts of dy[b,h,t,:]
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

}  // namespace sieve
