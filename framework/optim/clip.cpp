#include "framework/optim/clip.h"

#include <algorithm>
#include <cmath>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/dispatch.h"

namespace sieve {
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

struct Chunk {
    const Tensor* grad;
    int64_t begin, count;
};

std::vector<Chunk> chunks_of(const std::vector<Tensor>& grads) {
    std::vector<Chunk> chunks;
    for (const Tensor& grad : grads)
        for (int64_t i = 0; i < grad.numel(); i += chunk)
            chunks.push_back({&grad, i, std::min(chunk, grad.numel() - i)});
    return chunks;
}

// Calls f(index, chunk, pointer to its elements) for all chunks, in parallel.
template <class F>
void for_each_chunk(const std::vector<Chunk>& chunks, F&& f) {
    parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const Chunk& c = chunks[static_cast<size_t>(i)];
            dispatch_float("clip_gradients", c.grad->dtype(),
                           [&]<class T>() { f(static_cast<size_t>(i), c, c.grad->data<T>() + c.begin); });
        }
    });
}

}  // namespace

double clip_gradients(const std::vector<Parameter>& parameters, double max_norm) {
    std::vector<Tensor> grads;
    for (const Parameter& p : parameters) {
        if (const Tensor grad = p.tensor.grad(); grad.defined()) grads.push_back(grad);
    }
    const std::vector<Chunk> chunks = chunks_of(grads);
    std::vector<double> squares(chunks.size());
    for_each_chunk(chunks, [&](size_t i, const Chunk& c, auto* x) { squares[i] = squares_of(x, c.count); });
    double sum = 0;
    for (const double s : squares) sum += s;
    const double norm = std::sqrt(sum), factor = max_norm / (norm + 1e-6);
    if (!std::isfinite(norm) || factor >= 1) return norm;
    for_each_chunk(chunks,
                   [&]<class T>(size_t, const Chunk& c, T* x) { scale(x, c.count, static_cast<T>(factor)); });
    return norm;
}

}  // namespace sieve
