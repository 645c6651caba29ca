// Causal attention as the original experiment computed it: T x T scores, softmax, a product with the values,
// each a tensor of its own. The yardstick for dense_attention and sparse_attention, which hold no T x T
// tensor.
//
//   z[b,h,t,s]        = scale * q[b,h,t] . k[b,g,s], -inf for s > t
//   a[b,h,t,:]        = softmax(z[b,h,t,:])
//   out[b,t,h*dv + j] = sum_s a[b,h,t,s] v[b,g,s,j]                          g = h / (H/G)
//
// Composed of batched_matmul, softmax and merge_heads; their nodes save q, k, v and a, which is B H T^2
// elements. The mask is written in place and the scale is the product's, so nothing else of that size is
// kept.
#pragma once

#include "framework/attention/selection/selection.h"

namespace sieve {

// q [B,H,T,dh], k [B,G,T,dh], v [B,G,T,dv], T >= 1 -> [B,T,H*dv]. Throws as dense_attention does.
Tensor materialised_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale);

// The same over what the original experiment's selector makes of a causal selection [B,T,slots]: its rows
// t < slots - 1 read the later keys up to slots - 1 as well (ops/leaking_mask/leaking_mask.h). A measure of what
// that leak does to a loss, and of nothing else.
Tensor leaking_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Selection& selection,
                         double scale);

}  // namespace sieve
