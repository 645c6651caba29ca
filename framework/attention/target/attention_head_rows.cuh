// Private to this room.
// The main attention's queries and keys as head_tile.cuh reads them.
#pragma once

#include "framework/attention/scores/head_tile.cuh"
#include "framework/attention/target/attention_target.h"

namespace sieve::cuda {

template <class T>
__device__ ScoredRows<T> attention_head_rows(const AttentionTarget<T>& a, int64_t length, int64_t b) {
    return {.q = a.q + b * a.heads * length * a.width,
            .k = a.k + b * a.key_heads * length * a.width,
            .q_stride = a.width,
            .q_head = length * a.width,
            .k_stride = a.width,
            .k_head = length * a.width,
            .length = length,
            .heads = static_cast<int>(a.heads),
            .group = static_cast<int>(a.heads / a.key_heads),
            .width = static_cast<int>(a.width)};
}

}  // namespace sieve::cuda
