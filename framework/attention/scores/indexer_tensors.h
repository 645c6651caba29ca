// The checks that every op on indexer queries, keys and weights begins with.
#pragma once

#include "framework/attention/scores/indexer_operands.h"
#include "framework/attention/scores/indexer_sizes.h"
#include "framework/core/dispatch.h"

namespace sieve {

inline void check_indexer(const char* op, const IndexerOperands& a) {
    const auto& [q, k, w, scale] = a;
    check_rank(op, "indexer q", q, 4);
    if (q.dim(2) == 0 || q.dim(3) == 0)
        fail(std::string(op) + ": indexer q is " + to_string(q.shape()) +
             ", want at least one head and one dim");
    const std::string why = "indexer q is " + to_string(q.shape());
    check_shape(op, "indexer k", k, Shape{q.dim(0), q.dim(1), q.dim(3)}, why);
    check_shape(op, "indexer w", w, Shape{q.dim(0), q.dim(1), q.dim(2)}, why);
    check_operand(op, "indexer k", k, {"indexer q", q});
    check_operand(op, "indexer w", w, {"indexer q", q});
}

inline IndexerSizes indexer_sizes(const Tensor& q) {
    return {.batch = q.dim(0), .length = q.dim(1), .heads = q.dim(2), .width = q.dim(3)};
}

}  // namespace sieve
