// query_row.h's formula on the device: one thread a key. A warp's threads read the same elements of the query
// together, and each its own key, whose lines stay in the L1 cache between elements.
#pragma once

#include <cuda_runtime.h>

#include "framework/attention/scores/query_row.h"

namespace sieve::cuda {

// `key`: its head 0. ReLU is written so that a NaN stays one.
template <class T>
__device__ T score_key(const QueryRow<T>& a, const T* key) {
    const int64_t group = a.heads / a.key_heads;
    T total = 0;
    for (int64_t h = 0; h < a.heads; ++h) {
        const T* q = a.q + h * a.q_head;
        const T* k = key + h / group * a.key_head;
        T dot = 0;
        for (int64_t i = 0; i < a.width; ++i) dot += q[i] * k[i];
        total += a.w ? a.scale * a.w[h] * (dot < T(0) ? T(0) : dot) : dot;
    }
    return total;
}

}  // namespace sieve::cuda
