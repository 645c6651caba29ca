#include "framework/ops/block_select/block_select.h"

#include <algorithm>

#include "framework/attention/scores/lightning_rows.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/ops/block_select/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "block_select";

void check_keys(const Tensor& q, const KeyBlocks& keys, int64_t queries) {
    check_operand(op, "means", keys.means, {"q", q});
    if (keys.block < 1)
        fail(std::string(op) + ": block is " + std::to_string(keys.block) + ", want at least 1");
    if (keys.length < queries)
        fail(std::string(op) + ": length is " + std::to_string(keys.length) + ", want at least the " +
             std::to_string(queries) + " queries");
    const int64_t needed = keys.length / keys.block;
    if (keys.means.dim(2) < needed)
        fail(std::string(op) + ": means are " + to_string(keys.means.shape()) + ", want those of " +
             std::to_string(needed) + " blocks");
}

template <class T>
void select(const QueryRows<T>& rows, const KeyBlocks& keys, const Selection& selection) {
    int64_t bad_row = -1;
    launch(op, keys.means.device(), cpu::block_select<T>, cuda::block_select<T>,
           BlockSelect<T>{.rows = rows,
                          .means = keys.means.data<T>(),
                          .indices = selection.indices.data<int32_t>(),
                          .counts = selection.counts.data<int32_t>(),
                          .bad_row = &bad_row,
                          .blocks_each = keys.means.dim(2),
                          .block = keys.block,
                          .length = keys.length,
                          .slots = selection.indices.dim(2)});
    check_no_nan(op, bad_row, rows.queries);
}

}  // namespace

Selection block_select(const Tensor& q, const KeyBlocks& keys, int64_t top_k) {
    check_rank(op, "q", q, 4);
    check_rank(op, "means", keys.means, 4);
    const int64_t B = q.dim(0), H = q.dim(1), Q = q.dim(2), d = q.dim(3), G = keys.means.dim(1);
    check_shape(op, "means", keys.means, Shape{B, G, keys.means.dim(2), d}, "q is " + to_string(q.shape()));
    if (H == 0 || G == 0 || H % G != 0)
        fail(std::string(op) + ": q has " + std::to_string(H) + " heads, want a multiple of the " +
             std::to_string(G) + " of the means");
    check_keys(q, keys, Q);
    const Selection selection = empty_selection(op, B, Q, keys.length, top_k, q.device());
    dispatch_float(op, q.dtype(), [&]<class T>() {
        select(QueryRows<T>{.q = q.data<T>(),
                            .q_batch = H * Q * d,
                            .q_token = d,
                            .q_head = Q * d,
                            .w = nullptr,
                            .heads = H,
                            .key_heads = G,
                            .width = d,
                            .scale = 1,
                            .batch = B,
                            .queries = Q},
               keys, selection);
    });
    return selection;
}

Selection block_select(const Tensor& q, const Tensor& w, double scale, const KeyBlocks& keys, int64_t top_k) {
    check_rank(op, "q", q, 4);
    check_rank(op, "means", keys.means, 4);
    const int64_t B = q.dim(0), Q = q.dim(1), d = q.dim(3);
    check_shape(op, "means", keys.means, Shape{B, 1, keys.means.dim(2), d}, "q is " + to_string(q.shape()));
    check_keys(q, keys, Q);
    const Selection selection = empty_selection(op, B, Q, keys.length, top_k, q.device());
    dispatch_float(op, q.dtype(),
                   [&]<class T>() { select(lightning_rows<T>(op, q, w, scale), keys, selection); });
    return selection;
}

}  // namespace sieve
