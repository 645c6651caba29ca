#include "framework/ops/indexer_quality/indexer_quality.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/attention/target/target_tensors.h"
#include "framework/core/dispatch.h"
#include "framework/ops/indexer_quality/kernels.h"

namespace sieve {
namespace {

IndexerQuality summary(const std::vector<double>& totals, int64_t rows) {
    const auto choices = static_cast<int64_t>(totals[4]);
    const auto mean = [](double total, int64_t n) { return n ? total / static_cast<double>(n) : 1.0; };
    return {mean(totals[0], rows),
            mean(totals[1], rows),
            mean(totals[2], choices),
            mean(totals[3], choices),
            rows,
            choices};
}

}  // namespace

IndexerQuality indexer_quality(const MainAttention& attention, const Selection& selection) {
    constexpr const char* op = "indexer_quality";
    const Tensor& q = attention.q;
    check_rank(op, "q", q, 4);
    const int64_t batch = q.dim(0), length = q.dim(2);
    check_target(op, attention, batch, length);
    check_selection(op, selection, {"q", q}, length, length);
    const Tensor recall = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor covered = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor totals = Tensor::empty({quality_totals}, DType::float64, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::indexer_quality<T>, cuda::indexer_quality<T>,
               IndexerQualityRows<T>{.target = attention_target<T>(attention),
                                     .keys = selected_keys(selection),
                                     .recall = recall.data<double>(),
                                     .covered = covered.data<double>(),
                                     .totals = totals.data<double>(),
                                     .bad_row = &bad_row,
                                     .batch = batch,
                                     .length = length});
    });
    check_no_nan(op, bad_row, length);
    return summary(totals.to_vector<double>(), batch * length);
}

}  // namespace sieve
