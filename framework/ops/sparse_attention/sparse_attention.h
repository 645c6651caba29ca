// Attention over selected keys: DeepSeek Sparse Attention's main attention (DeepSeek-V3.2-Exp, 2025,
// section 2.1). All heads of a row share its selection S_t; query head h reads the key and value head g = h /
// (H/G).
//
//   z[b,h,t,s] = scale * q[b,h,t] . k[b,g,s]          for s in S_t
//   lse[b,h,t] = log sum_s exp(z[b,h,t,s])
//   a[b,h,t,s] = exp(z[b,h,t,s] - lse[b,h,t])
//   out[b,t,h*dv + j] = sum_s a[b,h,t,s] v[b,g,s,j]
//
// The gradients are those of dense_attention.h with sums over S_t. A row with an empty S_t has output 0, lse
// -inf and gradient 0. The selection is a constant. Memory O(T k) with the selection, O(T) beside it, never T
// x T. Saves q, k, v, out, lse and the selection.
//
// Two methods:
//   gathered      reads the selected rows one by one: work O(T k).
//   masked_tiles  dense_attention's tiles, skipping tiles that nobody selected from, with the other keys
//   masked out:
//                 work up to O(T^2), but a key costs about a sixth of a gathered one. Rows that select every
//                 key up to their own get the bits of dense_attention.
//   automatic     masked_tiles when 3 * slots >= T: a row of masked_tiles walks T/2 keys on average, a row of
//                 gathered about `slots` at several times the price (measured; see sparse_attention.cpp).
// By either method the bits of row t depend on rows 0..t and their selections alone, and not on the number of
// threads.
#pragma once

#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/top_k/selection.h"

namespace sieve {

enum class SparseMethod { automatic, gathered, masked_tiles };

// q [B,H,T,dh], k [B,G,T,dh], v [B,G,T,dv], all float32 or all float64. Throws as dense_attention does, and
// when the selection's shapes or dtypes are wrong, a count is not in [0, min(slots, t + 1)], or the first or
// last key of a row is not in [0, t]. That the keys between them ascend is taken on trust.
AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale,
                                 SparseMethod method = SparseMethod::automatic);

}  // namespace sieve
