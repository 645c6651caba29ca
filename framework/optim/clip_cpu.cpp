#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/optim/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t chunk = 1 << 14;  // elements per partial sum, whatever the number of threads

template <class T>
inline double sum_of_squares(const T* x, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return sum;
}

template <class T>
inline void scale_all(T* x, int64_t n, T factor) {
    for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

SIEVE_CLONES double squares_of(const float* x, int64_t n) {
    return sum_of_squares(x, n);
}
SIEVE_CLONES double squares_of(const double* x, int64_t n) {
    return sum_of_squares(x, n);
}
SIEVE_CLONES void scale(float* x, int64_t n, float factor) {
    scale_all(x, n, factor);
}
SIEVE_CLONES void scale(double* x, int64_t n, double factor) {
    scale_all(x, n, factor);
}

template <class T>
std::vector<Gradient<T>> chunks_of(const ClipGradients<T>& a) {
    std::vector<Gradient<T>> chunks;
    for (int64_t g = 0; g < a.count; ++g)
        for (int64_t i = 0; i < a.gradients[g].count; i += chunk)
            chunks.push_back({a.gradients[g].grad + i, std::min(chunk, a.gradients[g].count - i)});
    return chunks;
}

// Calls f(index, chunk) for all chunks, in parallel.
template <class T, class F>
void for_each_chunk(const std::vector<Gradient<T>>& chunks, F&& f) {
    parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) f(static_cast<size_t>(i), chunks[static_cast<size_t>(i)]);
    });
}

}  // namespace

template <class T>
void clip_gradients(const ClipGradients<T>& a) {
    const std::vector<Gradient<T>> chunks = chunks_of(a);
    std::vector<double> squares(chunks.size());
    for_each_chunk(chunks, [&](size_t i, const Gradient<T>& c) { squares[i] = squares_of(c.grad, c.count); });
    double sum = 0;
    for (const double s : squares) sum += s;
    const double norm = std::sqrt(sum), factor = a.max_norm / (norm + 1e-6);
    *a.norm = norm;
    if (!std::isfinite(norm) || factor >= 1) return;
    for_each_chunk(chunks,
                   [&](size_t, const Gradient<T>& c) { scale(c.grad, c.count, static_cast<T>(factor)); });
}

template void clip_gradients(const ClipGradients<float>&);
template void clip_gradients(const ClipGradients<double>&);

}  // namespace sieve::cpu
