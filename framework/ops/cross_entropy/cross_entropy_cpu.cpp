#include <algorithm>
#include <cmath>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/cross_entropy/kernels.h"

namespace sieve::cpu {
namespace {

// Blocks are added up in float64: in float32 a million terms would lose three digits.
template <class T>
SIEVE_INLINE double sum_of_exponentials(const T* __restrict row, int64_t vocab, T highest) {
    constexpr int64_t block = 1 << 12;
    double total = 0;
    for (int64_t first = 0; first < vocab; first += block) {
        const int64_t end = std::min(vocab, first + block);
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t v = first; v < end; ++v) sum += simd_exp(row[v] - highest);
        total += static_cast<double>(sum);
    }
    return total;
}

// Clang's lanes begin a maximum at the lowest finite number: where no logit is it, all are -infinity.
template <class T>
SIEVE_INLINE int64_t first_of(const T* row, int64_t vocab, T highest) {
    const int64_t first = std::find(row, row + vocab, highest) - row;
    return first == vocab && !std::isnan(highest) ? 0 : first;
}

template <class T>
SIEVE_INLINE void forward_rows(const CrossEntropyForward<T>& a, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
        const T* __restrict row = a.logits + n * a.vocab;
        T highest = row[0];
#pragma omp simd reduction(max : highest)
        for (int64_t v = 0; v < a.vocab; ++v) highest = highest < row[v] ? row[v] : highest;
        a.highest[n] = highest;
        a.log_sum[n] = static_cast<T>(std::log(sum_of_exponentials(row, a.vocab, highest)));
        a.losses[n] = (highest - row[a.targets[n]]) + a.log_sum[n];
        if (a.best) a.best[n] = static_cast<int32_t>(first_of(row, a.vocab, highest));
    }
}

template <class T>
SIEVE_INLINE void backward_rows(const CrossEntropyBackward<T>& a, int64_t begin, int64_t end) {
    const T factor = static_cast<T>(static_cast<double>(*a.dloss) / static_cast<double>(a.rows));
    for (int64_t n = begin; n < end; ++n) {
        const T* __restrict row = a.logits + n * a.vocab;
        T* __restrict dlogits = a.dlogits + n * a.vocab;
        const T highest = a.highest[n], log_sum = a.log_sum[n];
#pragma omp simd
        for (int64_t v = 0; v < a.vocab; ++v) dlogits[v] = simd_exp((row[v] - highest) - log_sum) * factor;
        dlogits[a.targets[n]] -= factor;
    }
}

SIEVE_CLONES void forward(const CrossEntropyForward<float>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void forward(const CrossEntropyForward<double>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void backward(const CrossEntropyBackward<float>& a, int64_t b, int64_t e) {
    backward_rows(a, b, e);
}
SIEVE_CLONES void backward(const CrossEntropyBackward<double>& a, int64_t b, int64_t e) {
    backward_rows(a, b, e);
}

}  // namespace

template <class T>
void cross_entropy_forward(const CrossEntropyForward<T>& a) {
    parallel_for(a.rows, 8, [&](int64_t begin, int64_t end) { forward(a, begin, end); });
    // In float64 and in order: one sum for a million tokens must not lose digits.
    double sum = 0;
    for (int64_t n = 0; n < a.rows; ++n) sum += static_cast<double>(a.losses[n]);
    if (a.mean) *a.mean = static_cast<T>(sum / static_cast<double>(a.rows));
    if (!a.best) return;
    int64_t correct = 0;
    for (int64_t n = 0; n < a.rows; ++n) correct += a.best[n] == a.targets[n];
    a.score[0] = sum;
    a.score[1] = static_cast<double>(correct);
}
template <class T>
void cross_entropy_backward(const CrossEntropyBackward<T>& a) {
    parallel_for(a.rows, 8, [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void cross_entropy_forward(const CrossEntropyForward<float>&);
template void cross_entropy_forward(const CrossEntropyForward<double>&);
template void cross_entropy_backward(const CrossEntropyBackward<float>&);
template void cross_entropy_backward(const CrossEntropyBackward<double>&);

}  // namespace sieve::cpu
