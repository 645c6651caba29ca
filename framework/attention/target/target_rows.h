// The main attention's probabilities of some query rows on the device, summed over heads: the target of the
// indexer.
#pragma once

#include "framework/attention/scores/score_rows.h"
#include "framework/attention/target/attention_target.h"

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
