#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"
#include "framework/ops/indexer_kl/kernels.h"

namespace sieve {

template <class T>
struct IndexerQualityRows {
    AttentionTarget<T> target;
    const int32_t* indices;  // [B,T,slots]
    const int32_t* counts;   // [B,T]
    double* recall;          // [B,T]; 1 for rows that select all their keys
    double* covered;         // [B,T]; likewise
    int64_t* bad_row;        // the lowest row (b T + t) with a NaN probability, or -1
    int64_t batch, length, slots;
};

namespace cpu {
template <class T>
void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void indexer_quality(const IndexerQualityRows<T>& a);
}  // namespace cuda

}  // namespace sieve
