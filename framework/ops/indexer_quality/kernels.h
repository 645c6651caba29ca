#pragma once

#include <cstdint>

#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/target/attention_target.h"
#include "framework/core/cuda/twin.h"
#include "framework/core/rng.h"  // SIEVE_HOST_DEVICE

namespace sieve {

template <class T>
struct IndexerQualityRows {
    AttentionTarget<T> target;
    SelectedKeys keys;
    double* recall;    // [B,T]; 1 for rows that select all their keys
    double* covered;   // [B,T]; likewise
    double* oracle;    // [B,T]; likewise
    double* entropy;   // [B,T]
    double* totals;    // [quality_totals]
    int64_t* bad_row;  // the lowest row (b T + t) with a NaN probability, or -1; of the CPU only
    int64_t batch, length;
};

// Sums over rows; `_of_choices`: over those that left a key out alone.
enum QualityTotal : int {
    recall_total,
    covered_total,
    oracle_total,
    chance_total,
    entropy_total,
    choices_total,
    recall_of_choices_total,
    covered_of_choices_total,
    oracle_of_choices_total,
    chance_of_choices_total,
    quality_totals,
};

template <class T>
SIEVE_HOST_DEVICE void add_row(const IndexerQualityRows<T>& a, int64_t row, double* sums) {
    const int64_t keys = row % a.length + 1, count = a.keys.counts[row];
    const double chance = count < keys ? static_cast<double>(count) / static_cast<double>(keys) : 1;
    sums[recall_total] += a.recall[row];
    sums[covered_total] += a.covered[row];
    sums[oracle_total] += a.oracle[row];
    sums[chance_total] += chance;
    sums[entropy_total] += a.entropy[row];
    if (count >= keys) return;
    sums[choices_total] += 1;
    sums[recall_of_choices_total] += a.recall[row];
    sums[covered_of_choices_total] += a.covered[row];
    sums[oracle_of_choices_total] += a.oracle[row];
    sums[chance_of_choices_total] += chance;
}

namespace cpu {
template <class T>
void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cuda

}  // namespace sieve
