// query_row.h's formula on the CPU.
#pragma once

#include "framework/attention/scores/query_row.h"
#include "framework/core/simd.h"

namespace sieve::cpu {

// `key`: its head 0. ReLU is written so that a NaN stays one.
template <class T>
SIEVE_INLINE T score_key(const QueryRow<T>& a, const T* key) {
    const int64_t group = a.heads / a.key_heads;
    T total = 0;
    for (int64_t h = 0; h < a.heads; ++h) {
        const T* __restrict q = a.q + h * a.q_head;
        const T* __restrict k = key + h / group * a.key_head;
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < a.width; ++i) dot += q[i] * k[i];
        total += a.w ? a.scale * a.w[h] * (dot < T(0) ? T(0) : dot) : dot;
    }
    return total;
}

}  // namespace sieve::cpu
