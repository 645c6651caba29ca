#include "framework/nn/materialised_attention.h"

#include "framework/attention/tiles/attention_tensors.h"
#include "framework/ops/batched_matmul/batched_matmul.h"
#include "framework/ops/causal_mask/causal_mask.h"
#include "framework/ops/head_parts/head_parts.h"
#include "framework/ops/leaking_mask/leaking_mask.h"
#include "framework/ops/reshape/reshape.h"
#include "framework/ops/softmax/softmax.h"

namespace sieve {
namespace {

// hide(scores [B, H*T, T]) masks in place.
template <class Hide>
Tensor attend(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, double scale, Hide&& hide) {
    check_attention(op, q, k, v);
    const int64_t B = q.dim(0), H = q.dim(1), G = k.dim(1), T = q.dim(2), dh = q.dim(3), dv = v.dim(3);
    // The query heads that share a key head follow each other: their rows make one taller matrix.
    const int64_t rows = H / G * T;
    const Tensor scores =
        batched_matmul(reshape(q, {B * G, rows, dh}), reshape(k, {B * G, T, dh}), true, scale);
    hide(scores.alias({B, H * T, T}));
    const Tensor out = batched_matmul(softmax(scores), reshape(v, {B * G, T, dv}));
    return merge_heads(reshape(out, {B, H, T, dv}));
}

}  // namespace

Tensor materialised_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
    return attend("materialised_attention", q, k, v, scale, mask_future);
}

Tensor leaking_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Selection& selection,
                         double scale) {
    return attend("leaking_attention", q, k, v, scale,
                  [&](const Tensor& scores) { leaking_mask(scores, selection); });
}

}  // namespace sieve
