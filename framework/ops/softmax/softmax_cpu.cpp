#include <algorithm>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/softmax/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 13;
constexpr int64_t block_elements = 1 << 12;

template <class T>
SIEVE_INLINE void forward_rows(const SoftmaxForward<T>& a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * a.width;
        T* __restrict y = a.y + i * a.width;
        T highest = x[0];
#pragma omp simd reduction(max : highest)
        for (int64_t j = 0; j < a.width; ++j) highest = highest < x[j] ? x[j] : highest;
        double total = 0;  // over blocks, since in float32 a million terms would lose three digits
        for (int64_t first = 0; first < a.width; first += block_elements) {
            const int64_t last = std::min(a.width, first + block_elements);
            T sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = first; j < last; ++j) {
                y[j] = simd_exp(x[j] - highest);
                sum += y[j];
            }
            total += static_cast<double>(sum);
        }
        const T sum = static_cast<T>(total);
        for (int64_t j = 0; j < a.width; ++j) y[j] /= sum;
    }
}

template <class T>
SIEVE_INLINE void backward_rows(const SoftmaxBackward<T>& a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict dy = a.dy + i * a.width;
        const T* __restrict y = a.y + i * a.width;
        T* __restrict dx = a.dx + i * a.width;
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < a.width; ++j) dot += dy[j] * y[j];
        for (int64_t j = 0; j < a.width; ++j) dx[j] = y[j] * (dy[j] - dot);
    }
}

SIEVE_CLONES void forward(const SoftmaxForward<float>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void forward(const SoftmaxForward<double>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void backward(const SoftmaxBackward<float>& a, int64_t b, int64_t e) {
    backward_rows(a, b, e);
}
SIEVE_CLONES void backward(const SoftmaxBackward<double>& a, int64_t b, int64_t e) {
    backward_rows(a, b, e);
}

}  // namespace

template <class T>
void softmax_forward(const SoftmaxForward<T>& a) {
    parallel_for(a.rows, grain_elements / a.width + 1,
                 [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}
template <class T>
void softmax_backward(const SoftmaxBackward<T>& a) {
    parallel_for(a.rows, grain_elements / a.width + 1,
                 [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void softmax_forward(const SoftmaxForward<float>&);
template void softmax_forward(const SoftmaxForward<double>&);
template void softmax_backward(const SoftmaxBackward<float>&);
template void softmax_backward(const SoftmaxBackward<double>&);

}  // namespace sieve::cpu
