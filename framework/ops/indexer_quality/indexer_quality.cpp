#include "framework/ops/indexer_quality/indexer_quality.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/attention/target/target_tensors.h"
#include "framework/core/dispatch.h"
#include "framework/ops/indexer_quality/kernels.h"

namespace sieve {
namespace {

IndexerQuality summary(const std::vector<double>& totals, int64_t rows) {
    const auto choices = static_cast<int64_t>(totals[choices_total]);
    // A mean over no rows is 0 / 0: NaN.
    const auto of_choices = [&](QualityTotal total) { return totals[total] / static_cast<double>(choices); };
    const auto of_all = [&](QualityTotal total, double without_rows) {
        return rows ? totals[total] / static_cast<double>(rows) : without_rows;
    };
    return {.recall = of_all(recall_total, 1),
            .covered_mass = of_all(covered_total, 1),
            .oracle_mass = of_all(oracle_total, 1),
            .chance = of_all(chance_total, 1),
            .entropy = of_all(entropy_total, 0),
            .recall_of_choices = of_choices(recall_of_choices_total),
            .covered_mass_of_choices = of_choices(covered_of_choices_total),
            .oracle_mass_of_choices = of_choices(oracle_of_choices_total),
            .chance_of_choices = of_choices(chance_of_choices_total),
            .rows = rows,
            .choices = choices};
}

// Where attention is uniform the oracle's keys are no better than random ones, but for rounding.
constexpr double least_room = 1e-6;

double above_chance(double value, double chance, double oracle) {
    return oracle - chance > least_room ? (value - chance) / (oracle - chance) : NAN;
}

}  // namespace

double IndexerQuality::recall_above_chance() const {
    return above_chance(recall_of_choices, chance_of_choices, 1);
}

double IndexerQuality::mass_above_chance() const {
    return above_chance(covered_mass_of_choices, chance_of_choices, oracle_mass_of_choices);
}

IndexerQuality indexer_quality(const MainAttention& attention, const Selection& selection) {
    constexpr const char* op = "indexer_quality";
    const Tensor& q = attention.q;
    check_rank(op, "q", q, 4);
    const int64_t batch = q.dim(0), length = q.dim(2);
    check_target(op, attention, batch, length);
    check_selection(op, selection, {"q", q}, length, length);
    const Tensor recall = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor covered = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor oracle = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor entropy = Tensor::empty({batch, length}, DType::float64, q.device());
    const Tensor totals = Tensor::empty({quality_totals}, DType::float64, q.device());
    int64_t bad_row = -1;
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::indexer_quality<T>, cuda::indexer_quality<T>,
               IndexerQualityRows<T>{.target = attention_target<T>(attention),
                                     .keys = selected_keys(selection),
                                     .recall = recall.data<double>(),
                                     .covered = covered.data<double>(),
                                     .oracle = oracle.data<double>(),
                                     .entropy = entropy.data<double>(),
                                     .totals = totals.data<double>(),
                                     .bad_row = &bad_row,
                                     .batch = batch,
                                     .length = length});
    });
    check_no_nan(op, bad_row, length);
    return summary(totals.to_vector<double>(), batch * length);
}

}  // namespace sieve
