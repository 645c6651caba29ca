// The main attention's probabilities of some query rows on the device, summed over heads: the target of the
// indexer.
#pragma once

#include "framework/attention/scores/score_rows.h"
#include "framework/attention/selection/chosen_keys.cuh"
#include "framework/attention/target/attention_target.h"

namespace sieve::cuda {

template <class T>
struct TargetRows {
    AttentionTarget<T> attention;
    int64_t length;
    RowChunk chunk;
    ChosenKeys keys;  // over which the probabilities of a row sum to 1; or none: all s <= t
    T* p;             // [batches, rows, T]: H p[t,s], written at the keys that count
};

template <class T>
void target_rows(const TargetRows<T>& a);

}  // namespace sieve::cuda
