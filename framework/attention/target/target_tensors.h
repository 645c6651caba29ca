// The checks of the ops that compare the indexer with the main attention.
#pragma once

#include "framework/attention/target/attention_target.h"
#include "framework/attention/target/main_attention.h"
#include "framework/core/dispatch.h"

namespace sieve {

inline void check_target(const char* op, const MainAttention& a, int64_t batch, int64_t length) {
    const auto& [q, k, scale] = a;
    check_rank(op, "q", q, 4);
    check_rank(op, "k", k, 4);
    check_shape(op, "q", q, Shape{batch, q.dim(1), length, q.dim(3)}, "batch and length of the indexer");
    check_shape(op, "k", k, Shape{batch, k.dim(1), length, q.dim(3)}, "q is " + to_string(q.shape()));
    check_operand(op, "k", k, {"q", q});
    if (k.dim(1) == 0 || q.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
        fail(std::string(op) + ": q has " + std::to_string(q.dim(1)) + " heads, want a multiple of the " +
             std::to_string(k.dim(1)) + " of k");
}

template <class T>
AttentionTarget<T> attention_target(const MainAttention& a) {
    return {.q = a.q.data<T>(),
            .k = a.k.data<T>(),
            .heads = a.q.dim(1),
            .key_heads = a.k.dim(1),
            .width = a.q.dim(3),
            .scale = a.scale};
}

}  // namespace sieve
