// Attention of one new token over the keys and values of a cache: the last row of dense_attention, or of
// sparse_attention when there is a selection.
//
//   z[b,h,s]       = scale * q[b,h] . k[b,g,s]        g = h / (H/G); s < length, or s in the selection
//   lse[b,h]       = log sum_s exp(z[b,h,s])
//   out[b,h*dv+j]  = sum_s exp(z[b,h,s] - lse[b,h]) v[b,g,s,j]
//
// It runs those ops' own kernels for this row alone, so the bits are theirs, and a text that is decoded ties
// where a text that is read whole does. (Ties below the first layer are not only ReLU zeros: where all keys
// that a token reads carry one value, its output is that value, and rounding decides between equals.)
// Work O(length), with a selection O(slots).
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/ops/dense_attention/dense_attention.h"

namespace sieve {

// q [B,H,1,dh], k [B,G,C,dh], v [B,G,C,dv], all float32 or all float64; keys [0, length) are there, the rest
// is room. -> out [B,1,H*dv], lse [B,H,1]. `selection` (null: every key) has indices [B,1,slots] and counts
// [B,1], with slots = min(k, length) where sparse_attention would have min(k, T).
// Throws as those ops do, when length is not in [1, C], and when a gradient is asked for: it has none.
AttentionOutput decode_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length,
                                 double scale, const Selection* selection = nullptr);

}  // namespace sieve
