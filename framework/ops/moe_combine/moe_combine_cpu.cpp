#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/moe_combine/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 14;

template <class T>
SIEVE_INLINE void forward_rows(const MoeCombineForward<T>& a, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
        T* __restrict out = a.out + n * a.width;
        for (int64_t j = 0; j < a.top_k; ++j) {
            const T* __restrict y = a.y + a.position[n * a.top_k + j] * a.width;
            const T w = a.weights[n * a.top_k + j];
            if (j == 0)
                for (int64_t i = 0; i < a.width; ++i) out[i] = w * y[i];
            else
                for (int64_t i = 0; i < a.width; ++i) out[i] += w * y[i];
        }
    }
}

template <class T>
SIEVE_INLINE void backward_rows(const MoeCombineBackward<T>& a, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
        const T* __restrict dout = a.dout + n * a.width;
        for (int64_t j = 0; j < a.top_k; ++j) {
            const int64_t slot = n * a.top_k + j, row = a.position[slot] * a.width;
            const T* __restrict y = a.y + row;
            const T w = a.weights[slot];
            if (a.dweights) {
                T dot = 0;
#pragma omp simd reduction(+ : dot)
                for (int64_t i = 0; i < a.width; ++i) dot += dout[i] * y[i];
                a.dweights[slot] = dot;
            }
            if (!a.dy) continue;
            T* __restrict dy = a.dy + row;
            for (int64_t i = 0; i < a.width; ++i) dy[i] = w * dout[i];
        }
    }
}

SIEVE_CLONES void forward(const MoeCombineForward<float>& a, int64_t begin, int64_t end) {
    forward_rows(a, begin, end);
}
SIEVE_CLONES void forward(const MoeCombineForward<double>& a, int64_t begin, int64_t end) {
    forward_rows(a, begin, end);
}
SIEVE_CLONES void backward(const MoeCombineBackward<float>& a, int64_t begin, int64_t end) {
    backward_rows(a, begin, end);
}
SIEVE_CLONES void backward(const MoeCombineBackward<double>& a, int64_t begin, int64_t end) {
    backward_rows(a, begin, end);
}

}  // namespace

template <class T>
void moe_combine_forward(const MoeCombineForward<T>& a) {
    parallel_for(a.tokens, grain_elements / (a.width * a.top_k + 1) + 1,
                 [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}

template <class T>
void moe_combine_backward(const MoeCombineBackward<T>& a) {
    parallel_for(a.tokens, grain_elements / (a.width * a.top_k + 1) + 1,
                 [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void moe_combine_forward(const MoeCombineForward<float>&);
template void moe_combine_forward(const MoeCombineForward<double>&);
template void moe_combine_backward(const MoeCombineBackward<float>&);
template void moe_combine_backward(const MoeCombineBackward<double>&);

}  // namespace sieve::cpu
