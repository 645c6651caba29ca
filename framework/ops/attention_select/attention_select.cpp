#include "framework/ops/attention_select/attention_select.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/attention/target/target_tensors.h"
#include "framework/ops/attention_select/kernels.h"
#include "framework/ops/decode_select/decode_select.h"

namespace sieve {

Selection attention_select(const MainAttention& attention, int64_t top_k) {
    constexpr const char* op = "attention_select";
    const Tensor& q = attention.q;
    check_rank(op, "q", q, 4);
    const int64_t batch = q.dim(0), length = q.dim(2);
    check_target(op, attention, batch, length);
    const Selection selection = empty_selection(op, batch, length, length, top_k, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::attention_select<T>, cuda::attention_select<T>,
               AttentionSelect<T>{.attention = attention_target<T>(attention),
                                  .indices = selection.indices.data<int32_t>(),
                                  .counts = selection.counts.data<int32_t>(),
                                  .bad_row = &bad_row,
                                  .batch = batch,
                                  .length = length,
                                  .slots = selection.indices.dim(2)});
    });
    check_no_nan(op, bad_row, length);
    return selection;
}

namespace {

// Of the key heads.
int64_t check_panels(const char* op, const Tensor& q, const Tensor& panels, int64_t length) {
    check_rank(op, "q", q, 4);
    check_shape(op, "q", q, Shape{q.dim(0), q.dim(1), 1, q.dim(3)}, "one token");
    check_rank(op, "key_panels", panels, 4);
    check_operand(op, "key_panels", panels, {"q", q});
    check_shape(op, "key_panels", panels,
                Shape{panels.dim(0), panels.dim(1), q.dim(3), indexer_panel_keys(q.dtype())});
    const int64_t rows = q.dim(0) * q.dim(1), capacity = panels.dim(1) * panels.dim(3);
    if (panels.dim(0) == 0 || panels.dim(0) % q.dim(0) != 0 || rows % panels.dim(0) != 0)
        fail(std::string(op) + ": q is " + to_string(q.shape()) +
             ", want its heads a multiple of the key heads of " + to_string(panels.shape()));
    if (length < 1 || length > capacity)
        fail(std::string(op) + ": length is " + std::to_string(length) + ", want 1 to the capacity " +
             std::to_string(capacity));
    return panels.dim(0) / q.dim(0);
}

}  // namespace

Selection attention_select_next(const Tensor& q, double scale, const Tensor& key_panels, int64_t length,
                                int64_t top_k) {
    constexpr const char* op = "attention_select_next";
    const int64_t key_heads = check_panels(op, q, key_panels, length);
    const int64_t batch = q.dim(0);
    const Selection selection = empty_selection(op, batch, 1, length, top_k, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch_on_cpu(op, q.device(), cpu::attention_select_next<T>,
                      AttentionSelectNext<T>{.attention = {.q = q.data<T>(),
                                                           .k = key_panels.data<T>(),
                                                           .heads = q.dim(1),
                                                           .key_heads = key_heads,
                                                           .width = q.dim(3),
                                                           .scale = scale},
                                             .panels_each = key_panels.dim(1),
                                             .indices = selection.indices.data<int32_t>(),
                                             .counts = selection.counts.data<int32_t>(),
                                             .bad_row = &bad_row,
                                             .batch = batch,
                                             .length = length,
                                             .slots = selection.indices.dim(2)});
    });
    check_no_nan(op, bad_row, 1);
    return selection;
}

}  // namespace sieve
