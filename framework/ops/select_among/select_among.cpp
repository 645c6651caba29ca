#include "framework/ops/select_among/select_among.h"

#include "framework/attention/scores/lightning_rows.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/ops/select_among/kernels.h"

namespace sieve {

Selection select_among(const Selection& candidates, const Tensor& q, const Tensor& w, double scale,
                       const Tensor& k, int64_t length, int64_t top_k) {
    constexpr const char* op = "select_among";
    check_rank(op, "q", q, 4);
    check_rank(op, "k", k, 3);
    const int64_t batch = q.dim(0), queries = q.dim(1);
    check_shape(op, "k", k, Shape{batch, k.dim(1), q.dim(3)}, "q is " + to_string(q.shape()));
    check_operand(op, "k", k, {"q", q});
    if (length < queries || length > k.dim(1))
        fail(std::string(op) + ": length is " + std::to_string(length) + ", want " + std::to_string(queries) +
             " queries to " + std::to_string(k.dim(1)) + " keys");
    check_selection(op, candidates, {"q", q}, queries, length);
    const Selection selection =
        empty_selection(op, batch, queries, candidates.indices.dim(2), top_k, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::select_among<T>, cuda::select_among<T>,
               SelectAmong<T>{.rows = lightning_rows<T>(op, q, w, scale),
                              .k = k.data<T>(),
                              .keys_each = k.dim(1),
                              .candidates = selected_keys(candidates),
                              .indices = selection.indices.data<int32_t>(),
                              .counts = selection.counts.data<int32_t>(),
                              .bad_row = &bad_row,
                              .slots = selection.indices.dim(2)});
    });
    check_no_nan(op, bad_row, queries);
    return selection;
}

}  // namespace sieve
