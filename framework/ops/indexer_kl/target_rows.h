// The main attention's probabilities of some query rows on the device, summed over heads: the target of the
// indexer.
#pragma once

#include "framework/ops/indexer_kl/kernels.h"
#include "framework/ops/lightning_indexer/score_rows.h"

namespace sieve::cuda {

template <class T>
struct TargetRows {
    AttentionTarget<T> attention;
    int64_t length;
    RowChunk chunk;
    T* p;  // [batches, rows, T]: H p[t,s], written at s <= t
};

template <class T>
void target_rows(const TargetRows<T>& a);

}  // namespace sieve::cuda
