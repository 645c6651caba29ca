#include "framework/ops/lightning_indexer/lightning_indexer.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/dispatch.h"
#include "framework/ops/lightning_indexer/check.h"
#include "framework/ops/lightning_indexer/kernels.h"
#include "framework/ops/quantize_rows/quantize_rows.h"
#include "framework/ops/top_k/check.h"

namespace sieve {
namespace {

template <class T>
std::vector<Tensor> scores_backward_of(const Tensor& dscores, const Tensor& q, const Tensor& k,
                                       const Tensor& w, double scale) {
    const Tensor dq = Tensor::empty(q.shape(), q.dtype(), q.device());
    const Tensor dk = Tensor::empty(k.shape(), k.dtype(), k.device());
    const Tensor dw = Tensor::empty(w.shape(), w.dtype(), w.device());
    launch("indexer_scores", q.device(), cpu::indexer_scores_backward<T>, cuda::indexer_scores_backward<T>,
           IndexerScoresBackward<T>{.dscores = dscores.data<T>(),
                                    .q = q.data<T>(),
                                    .k = k.data<T>(),
                                    .w = w.data<T>(),
                                    .dq = dq.data<T>(),
                                    .dk = dk.data<T>(),
                                    .dw = dw.data<T>(),
                                    .sizes = indexer_sizes(q),
                                    .scale = scale});
    return {q.requires_grad() ? dq : Tensor(), k.requires_grad() ? dk : Tensor(),
            w.requires_grad() ? dw : Tensor()};
}

}  // namespace

Tensor indexer_scores(const Tensor& q, const Tensor& k, const Tensor& w, double scale) {
    constexpr const char* op = "indexer_scores";
    check_indexer(op, q, k, w);
    const Tensor scores = Tensor::empty({q.dim(0), q.dim(1), q.dim(1)}, q.dtype(), q.device());
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::indexer_scores_forward<T>, cuda::indexer_scores_forward<T>,
               IndexerScoresForward<T>{.q = q.data<T>(),
                                       .k = k.data<T>(),
                                       .w = w.data<T>(),
                                       .scores = scores.data<T>(),
                                       .sizes = indexer_sizes(q),
                                       .scale = scale});
    });
    record(op, {q, k, w}, {scores}, [q, k, w, scale](const std::vector<Tensor>& dscores) {
        return dispatch_float(op, q.dtype(),
                              [&]<class T>() { return scores_backward_of<T>(dscores[0], q, k, w, scale); });
    });
    return scores;
}

namespace {

template <class T>
Selection select_in_float(const Tensor& q, const Tensor& k, const Tensor& w, double scale,
                          const Selection& selection) {
    constexpr const char* op = "indexer_select";
    int64_t bad_row = -1;
    launch(op, q.device(), cpu::indexer_select<T>, cuda::indexer_select<T>,
           IndexerSelect<T>{.q = q.data<T>(),
                            .k = k.data<T>(),
                            .w = w.data<T>(),
                            .indices = selection.indices.data<int32_t>(),
                            .counts = selection.counts.data<int32_t>(),
                            .bad_row = &bad_row,
                            .sizes = indexer_sizes(q),
                            .scale = scale,
                            .slots = selection.indices.dim(2)});
    check_no_nan(op, bad_row, q.dim(1));
    return selection;
}

Selection select_in_int8(const Tensor& q, const Tensor& k, const Tensor& w, double scale,
                         const Selection& selection) {
    constexpr const char* op = "indexer_select";
    const QuantizedRows queries = quantize_rows(q, RowFormat::int8), keys = quantize_rows(k, RowFormat::int8);
    const Tensor weights = times_scales(w, queries.scales);
    int64_t bad_row = -1;
    launch(op, q.device(), cpu::indexer_select_int8, cuda::indexer_select_int8,
           IndexerSelectInt8{.q = queries.codes.data<uint8_t>(),
                             .k = keys.codes.data<uint8_t>(),
                             .w = weights.data<float>(),
                             .key_scales = keys.scales.data<float>(),
                             .indices = selection.indices.data<int32_t>(),
                             .counts = selection.counts.data<int32_t>(),
                             .bad_row = &bad_row,
                             .sizes = indexer_sizes(q),
                             .scale = scale,
                             .slots = selection.indices.dim(2)});
    check_no_nan(op, bad_row, q.dim(1));
    return selection;
}

}  // namespace

RoundedQueries rounded_queries(const Tensor& q, const Tensor& w, IndexerPrecision precision) {
    if (precision == IndexerPrecision::fp32) return {q, w};
    if (precision == IndexerPrecision::bf16) return {bf16_values(q), w};
    if (precision == IndexerPrecision::fp8) return {fp8_values(quantize_rows(q, RowFormat::fp8)), w};
    const QuantizedRows rows = quantize_rows(q, RowFormat::int8);
    return {int8_values(rows), times_scales(w, rows.scales)};
}

RoundedKeys rounded_keys(const Tensor& k, IndexerPrecision precision) {
    if (precision == IndexerPrecision::fp32) return {k, Tensor()};
    if (precision == IndexerPrecision::bf16) return {bf16_values(k), Tensor()};
    if (precision == IndexerPrecision::fp8) return {fp8_values(quantize_rows(k, RowFormat::fp8)), Tensor()};
    const QuantizedRows rows = quantize_rows(k, RowFormat::int8);
    return {int8_values(rows), rows.scales};
}

Selection indexer_select(const Tensor& q, const Tensor& k, const Tensor& w, double scale, int64_t top_k,
                         IndexerPrecision precision) {
    constexpr const char* op = "indexer_select";
    check_indexer(op, q, k, w);
    const Selection selection = empty_selection(op, q.dim(0), q.dim(1), top_k, q.device());
    if (precision == IndexerPrecision::int8) return select_in_int8(q, k, w, scale, selection);
    const Tensor queries = rounded_queries(q, w, precision).q, keys = rounded_keys(k, precision).k;
    return dispatch_float(op, q.dtype(),
                          [&]<class T>() { return select_in_float<T>(queries, keys, w, scale, selection); });
}

}  // namespace sieve
