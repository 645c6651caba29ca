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

// One tensor's step, with its scalars in the tensor's own type.
template <class T>
struct Update {
    AdamWTensor<T> tensor;
    T beta1, rest1, beta2, rest2, eps;
    T decay;       // 1 - learning_rate * weight_decay
    T step_size;   // learning_rate / (1 - beta1^t)
    T correction;  // 1 / sqrt(1 - beta2^t)
};

template <class T>
Update<T> update_of(const AdamWStep<T>& a, const AdamWTensor<T>& tensor, double t) {
    const double rate = *a.learning_rate;
    return {.tensor = tensor,
            .beta1 = static_cast<T>(a.beta1),
            .rest1 = static_cast<T>(1 - a.beta1),
            .beta2 = static_cast<T>(a.beta2),
            .rest2 = static_cast<T>(1 - a.beta2),
            .eps = static_cast<T>(a.eps),
            .decay = static_cast<T>(1 - rate * a.weight_decay),
            .step_size = static_cast<T>(rate / (1 - std::pow(a.beta1, t))),
            .correction = static_cast<T>(1 / std::sqrt(1 - std::pow(a.beta2, t)))};
}

template <class T>
SIEVE_INLINE void step_range(const Update<T>& u, int64_t begin, int64_t end) {
    T* __restrict p = u.tensor.parameter;
    const T* __restrict g = u.tensor.grad;
    T* __restrict m = u.tensor.exp_avg;
    T* __restrict v = u.tensor.exp_avg_sq;
    const T beta1 = u.beta1, rest1 = u.rest1, beta2 = u.beta2, rest2 = u.rest2;
    const T decay = u.decay, step_size = u.step_size, correction = u.correction, eps = u.eps;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
        m[i] = beta1 * m[i] + rest1 * g[i];
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
        p[i] = decay * p[i] - step_size * m[i] / (std::sqrt(v[i]) * correction + eps);
    }
}

SIEVE_CLONES void step(const Update<float>& u, int64_t begin, int64_t end) {
    step_range(u, begin, end);
}
SIEVE_CLONES void step(const Update<double>& u, int64_t begin, int64_t end) {
    step_range(u, begin, end);
}

}  // namespace

template <class T>
void adamw_step(const AdamWStep<T>& a) {
    if (a.guard && !std::isfinite(*a.guard)) return;
    for (int64_t i = 0; i < a.count; ++i) {
        const AdamWTensor<T>& tensor = a.tensors[i];
        const Update<T> u = update_of(a, tensor, static_cast<double>(++*tensor.steps));
        parallel_for((tensor.count + chunk - 1) / chunk, 8, [&](int64_t begin, int64_t end) {
            step(u, begin * chunk, std::min(tensor.count, end * chunk));
        });
    }
}

template void adamw_step(const AdamWStep<float>&);
template void adamw_step(const AdamWStep<double>&);

}  // namespace sieve::cpu
