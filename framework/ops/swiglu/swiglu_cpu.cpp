#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/swiglu/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain = 1 << 14;

template <class T>
SIEVE_INLINE void forward_range(const SwigluForward<T>& a, int64_t begin, int64_t end) {
    const T* __restrict gate = a.gate;
    const T* __restrict up = a.up;
    T* __restrict y = a.y;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = gate[i] * simd_sigmoid(gate[i]) * up[i];
}

template <class T>
SIEVE_INLINE void backward_range(const SwigluBackward<T>& a, int64_t begin, int64_t end) {
    const T* __restrict dy = a.dy;
    const T* __restrict gate = a.gate;
    const T* __restrict up = a.up;
    T* __restrict dgate = a.dgate;
    T* __restrict dup = a.dup;
    if (dgate) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) dgate[i] = dy[i] * up[i] * silu_slope(gate[i]);
    }
    if (dup) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) dup[i] = dy[i] * gate[i] * simd_sigmoid(gate[i]);
    }
}

SIEVE_CLONES void forward(const SwigluForward<float>& a, int64_t b, int64_t e) {
    forward_range(a, b, e);
}
SIEVE_CLONES void forward(const SwigluForward<double>& a, int64_t b, int64_t e) {
    forward_range(a, b, e);
}
SIEVE_CLONES void backward(const SwigluBackward<float>& a, int64_t b, int64_t e) {
    backward_range(a, b, e);
}
SIEVE_CLONES void backward(const SwigluBackward<double>& a, int64_t b, int64_t e) {
    backward_range(a, b, e);
}

}  // namespace

template <class T>
void swiglu_forward(const SwigluForward<T>& a) {
    parallel_for(a.count, grain, [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}
template <class T>
void swiglu_backward(const SwigluBackward<T>& a) {
    parallel_for(a.count, grain, [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void swiglu_forward(const SwigluForward<float>&);
template void swiglu_forward(const SwigluForward<double>&);
template void swiglu_backward(const SwigluBackward<float>&);
template void swiglu_backward(const SwigluBackward<double>&);

}  // namespace sieve::cpu
