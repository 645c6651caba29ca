#include "framework/ops/lightning_indexer/lightning_indexer.h"

#include "framework/attention/scores/indexer_tensors.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/lightning_indexer/kernels.h"
#include "framework/ops/quantize_rows/quantize_rows.h"

namespace sieve {
namespace {

template <class T>
std::vector<Tensor> scores_backward_of(const Tensor& dscores, const IndexerOperands& operands) {
    const auto& [q, k, w, scale] = operands;
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

Tensor indexer_scores(const IndexerOperands& operands) {
    constexpr const char* op = "indexer_scores";
    check_indexer(op, operands);
    const Tensor &q = operands.q, &k = operands.k, &w = operands.w;  // clang captures no structured binding
    const double scale = operands.scale;
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
    record(op, {q, k, w}, {scores}, [operands](const std::vector<Tensor>& dscores) {
        return dispatch_float(op, operands.q.dtype(),
                              [&]<class T>() { return scores_backward_of<T>(dscores[0], operands); });
    });
    return scores;
}

namespace {

// int8's queries, with the weights that carry their scales.
struct Int8Queries {
    QuantizedRows rows;
    Tensor w;
};

Int8Queries int8_queries(const Tensor& q, const Tensor& w) {
    const QuantizedRows rows = quantize_rows(q, RowFormat::int8);
    return {rows, times_scales(w, rows.scales)};
}

// `args` holds the operands of the kernels; what every precision has is set here.
template <class Args>
void select_by(void (*cpu_kernel)(const Args&), void (*cuda_kernel)(const Args&), Args args, const Tensor& q,
               double scale, const Selection& selection) {
    constexpr const char* op = "indexer_select";
    int64_t bad_row = -1;
    args.indices = selection.indices.data<int32_t>();
    args.counts = selection.counts.data<int32_t>();
    args.bad_row = &bad_row;
    args.sizes = indexer_sizes(q);
    args.scale = scale;
    args.slots = selection.indices.dim(2);
    launch(op, q.device(), cpu_kernel, cuda_kernel, args);
    check_no_nan(op, bad_row, q.dim(1));
}

void select_in_int8(const IndexerOperands& operands, const Selection& selection) {
    const auto& [q, k, w, scale] = operands;
    const Int8Queries queries = int8_queries(q, w);
    const QuantizedRows keys = quantize_rows(k, RowFormat::int8);
    select_by(cpu::indexer_select_int8, cuda::indexer_select_int8,
              IndexerSelectInt8{.q = queries.rows.codes.data<uint8_t>(),
                                .k = keys.codes.data<uint8_t>(),
                                .w = queries.w.data<float>(),
                                .key_scales = keys.scales.data<float>()},
              q, scale, selection);
}

}  // namespace

RoundedQueries rounded_queries(const Tensor& q, const Tensor& w, IndexerPrecision precision) {
    if (precision == IndexerPrecision::fp32) return {q, w};
    if (precision == IndexerPrecision::bf16) return {bf16_values(q), w};
    if (precision == IndexerPrecision::fp8) return {fp8_values(quantize_rows(q, RowFormat::fp8)), w};
    const Int8Queries queries = int8_queries(q, w);
    return {int8_values(queries.rows), queries.w};
}

RoundedKeys rounded_keys(const Tensor& k, IndexerPrecision precision) {
    if (precision == IndexerPrecision::fp32) return {k, Tensor()};
    if (precision == IndexerPrecision::bf16) return {bf16_values(k), Tensor()};
    if (precision == IndexerPrecision::fp8) return {fp8_values(quantize_rows(k, RowFormat::fp8)), Tensor()};
    const QuantizedRows rows = quantize_rows(k, RowFormat::int8);
    return {int8_values(rows), rows.scales};
}

Selection indexer_select(const IndexerOperands& operands, int64_t top_k, IndexerPrecision precision) {
    constexpr const char* op = "indexer_select";
    check_indexer(op, operands);
    const Tensor &q = operands.q, &k = operands.k, &w = operands.w;  // clang captures no structured binding
    const double scale = operands.scale;
    const Selection selection = empty_selection(op, q.dim(0), q.dim(1), q.dim(1), top_k, q.device());
    if (precision == IndexerPrecision::int8) {
        select_in_int8(operands, selection);
        return selection;
    }
    const RoundedQueries queries = rounded_queries(q, w, precision);
    const RoundedKeys keys = rounded_keys(k, precision);
    dispatch_float(op, q.dtype(), [&]<class T>() {
        select_by(cpu::indexer_select<T>, cuda::indexer_select<T>,
                  IndexerSelect<T>{.q = queries.q.data<T>(), .k = keys.k.data<T>(), .w = queries.w.data<T>()},
                  q, scale, selection);
    });
    return selection;
}

}  // namespace sieve
