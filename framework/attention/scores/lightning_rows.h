// The lightning indexer's queries as query_row.h has them.
#pragma once

#include "framework/attention/scores/query_row.h"
#include "framework/core/dispatch.h"

namespace sieve {

// q [B,Q,HI,dI], w [B,Q,HI]. Throws when they do not fit each other, naming `op`, or HI or dI is 0.
template <class T>
QueryRows<T> lightning_rows(const char* op, const Tensor& q, const Tensor& w, double scale) {
    check_rank(op, "q", q, 4);
    const int64_t B = q.dim(0), Q = q.dim(1), heads = q.dim(2), width = q.dim(3);
    check_shape(op, "w", w, Shape{B, Q, heads}, "q is " + to_string(q.shape()));
    check_operand(op, "w", w, {"q", q});
    if (heads == 0 || width == 0)
        fail(std::string(op) + ": q is " + to_string(q.shape()) + ", want at least one head and one dim");
    return {.q = q.data<T>(),
            .q_batch = Q * heads * width,
            .q_token = heads * width,
            .q_head = width,
            .w = w.data<T>(),
            .heads = heads,
            .key_heads = 1,
            .width = width,
            .scale = scale,
            .batch = B,
            .queries = Q};
}

}  // namespace sieve
