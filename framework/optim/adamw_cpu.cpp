#include <algorithm>
#include <cmath>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/optim/kernels.h"

namespace sieve::cpu {
namespace {

// Elements per task: whole vectors, so that which elements fall into a scalar remainder does not depend on
// the threads.
constexpr int64_t chunk = 1 << 12;

template <class T>
SIEVE_INLINE void step_range(const AdamWStep<T>& a, int64_t begin, int64_t end) {
    T* __restrict p = a.parameter;
    const T* __restrict g = a.grad;
    T* __restrict m = a.exp_avg;
    T* __restrict v = a.exp_avg_sq;
    const T beta1 = static_cast<T>(a.beta1), rest1 = static_cast<T>(1 - a.beta1);
    const T beta2 = static_cast<T>(a.beta2), rest2 = static_cast<T>(1 - a.beta2);
    const T decay = static_cast<T>(a.decay), step_size = static_cast<T>(a.step_size);
    const T correction = static_cast<T>(a.second_correction), eps = static_cast<T>(a.eps);
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
        m[i] = beta1 * m[i] + rest1 * g[i];
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
        p[i] = decay * p[i] - step_size * m[i] / (std::sqrt(v[i]) * correction + eps);
    }
}

SIEVE_CLONES void step(const AdamWStep<float>& a, int64_t begin, int64_t end) {
    step_range(a, begin, end);
}
SIEVE_CLONES void step(const AdamWStep<double>& a, int64_t begin, int64_t end) {
    step_range(a, begin, end);
}

}  // namespace

template <class T>
void adamw_step(const AdamWStep<T>& a) {
    parallel_for((a.count + chunk - 1) / chunk, 8,
                 [&](int64_t begin, int64_t end) { step(a, begin * chunk, std::min(a.count, end * chunk)); });
}

template void adamw_step(const AdamWStep<float>&);
template void adamw_step(const AdamWStep<double>&);

}  // namespace sieve::cpu
