// What dense and sparse attention ask of q [B,H,T,dh], k [B,G,T,dh] and v [B,G,T,dv].
#pragma once

#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/dense_attention/kernels.h"
#include "framework/ops/dispatch.h"

namespace sieve {

inline void check_attention(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
    check_rank(op, "q", q, 4);
    check_rank(op, "k", k, 4);
    check_rank(op, "v", v, 4);
    check_dtype(op, "k", k, q.dtype());
    check_dtype(op, "v", v, q.dtype());
    const std::string why = "to fit q " + to_string(q.shape());
    check_shape(op, "k", k, Shape{q.dim(0), k.dim(1), q.dim(2), q.dim(3)}, why);
    check_shape(op, "v", v, Shape{q.dim(0), k.dim(1), q.dim(2), v.dim(3)}, why);
    if (q.dim(3) == 0 || v.dim(3) == 0)
        fail(std::string(op) + ": the heads of q " + to_string(q.shape()) + " and v " + to_string(v.shape()) +
             " want a last dim of at least 1");
    if (k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
        fail(std::string(op) + ": q has " + std::to_string(q.dim(1)) + " heads, want a multiple of the " +
             std::to_string(k.dim(1)) + " of k");
}

inline AttentionSizes attention_sizes(const Tensor& q, const Tensor& k, const Tensor& v) {
    return {.batch = q.dim(0),
            .heads = q.dim(1),
            .kv_heads = k.dim(1),
            .length = q.dim(2),
            .dim = q.dim(3),
            .value_dim = v.dim(3)};
}

inline AttentionOutput empty_attention_output(const Tensor& q, const Tensor& v) {
    return {.out = Tensor::empty(Shape{q.dim(0), q.dim(2), q.dim(1) * v.dim(3)}, q.dtype(), q.device()),
            .lse = Tensor::empty(Shape{q.dim(0), q.dim(1), q.dim(2)}, q.dtype(), q.device())};
}

}  // namespace sieve
