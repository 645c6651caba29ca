// The loss and dLoss/dI of one query.
#pragma once

#include <cmath>
#include <limits>

#include "framework/core/vector_math.h"
#include "framework/ops/indexer_kl/log.h"

namespace sieve::cpu {

// KL(p || softmax(scores)) of one row of n keys, and g = weight * (softmax(scores) - p). On entry p holds H
// p.
template <class T>
SIEVE_INLINE T kl_row(const T* __restrict scores, const T* __restrict p, int64_t n, T over_heads, T weight,
                      T* __restrict g) {
    T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) largest = scores[s] > largest ? scores[s] : largest;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < n; ++s) {
        g[s] = simd_exp(scores[s] - largest);
        sum += g[s];
    }
    const T log_sum = largest + std::log(sum), over_sum = T(1) / sum;
    T loss = 0;
#pragma omp simd reduction(+ : loss)
    for (int64_t s = 0; s < n; ++s) {
        const T target = p[s] * over_heads;
        const T positive = target > std::numeric_limits<T>::min() ? target : std::numeric_limits<T>::min();
        const T term = target * (loop_log(positive) - (scores[s] - log_sum));
        loss += target > T(0) || target != target ? term : T(0);
        g[s] = weight * (g[s] * over_sum - target);
    }
    return loss;
}

}  // namespace sieve::cpu
