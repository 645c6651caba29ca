// What dense and sparse attention share around their kernels: checks of q [B,H,T,dh], k [B,G,T,dh] and v
// [B,G,T,dv], and the way from tensors to the kernels' argument structs.
#pragma once

#include <vector>

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/attention/tiles/attention_output.h"
#include "framework/core/dispatch.h"

namespace sieve {

// What holds for keys of the sequence and for those of a cache.
inline void check_heads(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
    check_rank(op, "q", q, 4);
    check_rank(op, "k", k, 4);
    check_rank(op, "v", v, 4);
    check_operand(op, "k", k, {"q", q});
    check_operand(op, "v", v, {"q", q});
    if (q.dim(3) == 0 || v.dim(3) == 0)
        fail(std::string(op) + ": the heads of q " + to_string(q.shape()) + " and v " + to_string(v.shape()) +
             " want a last dim of at least 1");
    if (k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
        fail(std::string(op) + ": q has " + std::to_string(q.dim(1)) + " heads, want a multiple of the " +
             std::to_string(k.dim(1)) + " of k");
}

inline void check_attention(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
    check_heads(op, q, k, v);
    const std::string why = "to fit q " + to_string(q.shape());
    check_shape(op, "k", k, Shape{q.dim(0), k.dim(1), q.dim(2), q.dim(3)}, why);
    check_shape(op, "v", v, Shape{q.dim(0), k.dim(1), q.dim(2), v.dim(3)}, why);
}

inline AttentionSizes attention_sizes(const Tensor& q, const Tensor& k, const Tensor& v) {
    return {.batch = q.dim(0),
            .heads = q.dim(1),
            .kv_heads = k.dim(1),
            .length = q.dim(2),
            .dim = q.dim(3),
            .value_dim = v.dim(3),
            .key_rows = k.dim(2)};
}

inline AttentionOutput empty_attention_output(const Tensor& q, const Tensor& v) {
    return {.out = Tensor::empty(Shape{q.dim(0), q.dim(2), q.dim(1) * v.dim(3)}, q.dtype(), q.device()),
            .lse = Tensor::empty(Shape{q.dim(0), q.dim(1), q.dim(2)}, q.dtype(), q.device())};
}

// What a backward needs beside the incoming gradient. A weight is exp((z - lse) - lse_rest): a rounded lse
// alone would make all weights of a row wrong by a factor e^(1e-7 |lse|).
struct SavedAttention {
    Tensor q, k, v, out, lse, lse_rest;  // `out` detached
    double scale;
};

inline SavedAttention saved_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                      const AttentionOutput& result, double scale) {
    const Tensor lse_rest = Tensor::empty(result.lse.shape(), q.dtype(), q.device());
    return {q, k, v, result.out.detach(), result.lse, lse_rest, scale};
}

template <class T>
AttentionForward<T> attention_forward_arguments(const SavedAttention& s, const SelectedKeys& keys,
                                                int64_t tiled_rows) {
    return {.q = s.q.data<T>(),
            .k = s.k.data<T>(),
            .v = s.v.data<T>(),
            .out = s.out.data<T>(),
            .lse = s.lse.data<T>(),
            .lse_rest = s.lse_rest.data<T>(),
            .scale = static_cast<T>(s.scale),
            .size = attention_sizes(s.q, s.k, s.v),
            .keys = keys,
            .tiled_rows = tiled_rows};
}

// {dq, dk, dv} by the given kernels. tiled_rows: those of the forward.
template <class T>
std::vector<Tensor> attention_gradients(const char* op, void (*cpu_kernel)(const AttentionBackward<T>&),
                                        void (*cuda_kernel)(const AttentionBackward<T>&), const Tensor& dout,
                                        const SavedAttention& s, const SelectedKeys& keys,
                                        int64_t tiled_rows) {
    const Tensor dq = Tensor::empty(s.q.shape(), s.q.dtype(), s.q.device());
    const Tensor dk = Tensor::empty(s.k.shape(), s.q.dtype(), s.q.device());
    const Tensor dv = Tensor::empty(s.v.shape(), s.q.dtype(), s.q.device());
    launch(op, s.q.device(), cpu_kernel, cuda_kernel,
           AttentionBackward<T>{.dout = dout.data<T>(),
                                .q = s.q.data<T>(),
                                .k = s.k.data<T>(),
                                .v = s.v.data<T>(),
                                .out = s.out.data<T>(),
                                .lse = s.lse.data<T>(),
                                .lse_rest = s.lse_rest.data<T>(),
                                .dq = dq.data<T>(),
                                .dk = dk.data<T>(),
                                .dv = dv.data<T>(),
                                .scale = static_cast<T>(s.scale),
                                .size = attention_sizes(s.q, s.k, s.v),
                                .keys = keys,
                                .tiled_rows = tiled_rows});
    return {dq, dk, dv};
}

}  // namespace sieve
