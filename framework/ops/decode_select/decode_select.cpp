#include "framework/ops/decode_select/decode_select.h"

#include "framework/attention/scores/score_block.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/core/dispatch.h"
#include "framework/ops/decode_select/kernels.h"

namespace sieve {
namespace {

// `first`: [B,n,width] or [B,n,heads,width].
void check_panels(const char* op, const Tensor& panels, const FirstOperand& first) {
    const Tensor& like = first.tensor;
    check_rank(op, "panels", panels, 4);
    check_operand(op, "panels", panels, first);
    check_shape(op, "panels", panels,
                Shape{like.dim(0), panels.dim(1), like.dim(-1), indexer_panel_keys(like.dtype())});
}

void check_key_scales(const char* op, const Tensor& scales, const Tensor& q, int64_t length) {
    if (!scales.defined()) return;
    check_rank(op, "key_scales", scales, 2);
    check_operand(op, "key_scales", scales, {"indexer q", q});
    if (scales.dim(0) != q.dim(0) || scales.dim(1) < length)
        fail(std::string(op) + ": key_scales are " + to_string(scales.shape()) + ", want [" +
             std::to_string(q.dim(0)) + ", " + std::to_string(length) + " or more]");
}

int64_t capacity_of(const Tensor& panels) {
    return panels.dim(1) * panels.dim(3);
}

}  // namespace

int64_t indexer_panel_keys(DType dtype) {
    return dispatch_float("indexer_panel_keys", dtype, []<class T>() { return cpu::panel_width<T>; });
}

void store_indexer_keys(const Tensor& k, const Tensor& panels, int64_t first) {
    constexpr const char* op = "store_indexer_keys";
    check_rank(op, "k", k, 3);
    check_panels(op, panels, {"k", k});
    if (first < 0 || first + k.dim(1) > capacity_of(panels))
        fail(std::string(op) + ": " + std::to_string(k.dim(1)) + " keys from " + std::to_string(first) +
             " on do not fit into panels of " + std::to_string(capacity_of(panels)));
    dispatch_float(op, k.dtype(), [&]<class T>() {
        launch_on_cpu(op, k.device(), cpu::store_indexer_keys<T>,
                      StoreIndexerKeys<T>{.k = k.data<T>(),
                                          .panels = panels.data<T>(),
                                          .batch = k.dim(0),
                                          .keys = k.dim(1),
                                          .width = k.dim(2),
                                          .panels_each = panels.dim(1),
                                          .first = first});
    });
}

Selection decode_select(const IndexerQuery& query, const CachedIndexerKeys& keys, int64_t top_k) {
    constexpr const char* op = "decode_select";
    const Tensor &q = query.q, &w = query.w, &panels = keys.panels, &key_scales = keys.scales;
    const int64_t length = keys.length;
    check_rank(op, "indexer q", q, 4);
    check_shape(op, "indexer q", q, Shape{q.dim(0), 1, q.dim(2), q.dim(3)}, "one token");
    if (q.dim(2) == 0 || q.dim(3) == 0)
        fail(std::string(op) + ": indexer q is " + to_string(q.shape()) +
             ", want at least one head and one dim");
    check_shape(op, "indexer w", w, Shape{q.dim(0), 1, q.dim(2)}, "indexer q is " + to_string(q.shape()));
    check_operand(op, "indexer w", w, {"indexer q", q});
    check_panels(op, panels, {"indexer q", q});
    if (length < 1 || length > capacity_of(panels))
        fail(std::string(op) + ": length is " + std::to_string(length) + ", want 1 to the capacity " +
             std::to_string(capacity_of(panels)));
    check_key_scales(op, key_scales, q, length);
    const Selection selection = empty_selection(op, q.dim(0), 1, length, top_k, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch_on_cpu(op, q.device(), cpu::decode_select<T>,
                      DecodeSelect<T>{.q = q.data<T>(),
                                      .panels = panels.data<T>(),
                                      .w = w.data<T>(),
                                      .key_scales = key_scales.defined() ? key_scales.data<T>() : nullptr,
                                      .scales_each = key_scales.defined() ? key_scales.dim(1) : 0,
                                      .indices = selection.indices.data<int32_t>(),
                                      .counts = selection.counts.data<int32_t>(),
                                      .bad_row = &bad_row,
                                      .batch = q.dim(0),
                                      .heads = q.dim(2),
                                      .width = q.dim(3),
                                      .panels_each = panels.dim(1),
                                      .length = length,
                                      .scale = query.scale,
                                      .slots = selection.indices.dim(2)});
    });
    check_no_nan(op, bad_row, 1);
    return selection;
}

}  // namespace sieve
