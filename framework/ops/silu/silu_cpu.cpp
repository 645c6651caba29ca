#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/silu/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain = 1 << 14;

template <class T>
SIEVE_INLINE void forward_range(const SiluForward<T>& a, int64_t begin, int64_t end) {
    const T* __restrict x = a.x;
    T* __restrict y = a.y;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] * simd_sigmoid(x[i]);
}

template <class T>
SIEVE_INLINE void backward_range(const SiluBackward<T>& a, int64_t begin, int64_t end) {
    const T* __restrict x = a.x;
    const T* __restrict dy = a.dy;
    T* __restrict dx = a.dx;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) dx[i] = dy[i] * silu_slope(x[i]);
}

SIEVE_CLONES void forward(const SiluForward<float>& a, int64_t b, int64_t e) {
    forward_range(a, b, e);
}
SIEVE_CLONES void forward(const SiluForward<double>& a, int64_t b, int64_t e) {
    forward_range(a, b, e);
}
SIEVE_CLONES void backward(const SiluBackward<float>& a, int64_t b, int64_t e) {
    backward_range(a, b, e);
}
SIEVE_CLONES void backward(const SiluBackward<double>& a, int64_t b, int64_t e) {
    backward_range(a, b, e);
}

}  // namespace

template <class T>
void silu_forward(const SiluForward<T>& a) {
    parallel_for(a.count, grain, [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}
template <class T>
void silu_backward(const SiluBackward<T>& a) {
    parallel_for(a.count, grain, [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void silu_forward(const SiluForward<float>&);
template void silu_forward(const SiluForward<double>&);
template void silu_backward(const SiluBackward<float>&);
template void silu_backward(const SiluBackward<double>&);

}  // namespace sieve::cpu
