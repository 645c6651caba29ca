#pragma once

#include <cstdint>

#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/target/attention_target.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct IndexerQualityRows {
    AttentionTarget<T> target;
    SelectedKeys keys;
    double* recall;    // [B,T]; 1 for rows that select all their keys
    double* covered;   // [B,T]; likewise
    double* totals;    // [quality_totals]
    int64_t* bad_row;  // the lowest row (b T + t) with a NaN probability, or -1; of the CPU only
    int64_t batch, length;
};

// Sums over all rows of recall and covered, the same over the rows that left a key out, and how many those
// are.
constexpr int64_t quality_totals = 5;

namespace cpu {
template <class T>
void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cuda

}  // namespace sieve
