#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/layer_norm/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 14;

template <class T>
SIEVE_INLINE void forward_rows(const LayerNormForward<T>& a, int64_t begin, int64_t end) {
    const auto width = static_cast<T>(a.width);
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * a.width;
        T* __restrict y = a.y + i * a.width;
        T sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < a.width; ++j) sum += x[j];
        const T mean = sum / width;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < a.width; ++j) squares += (x[j] - mean) * (x[j] - mean);
        const T r = T(1) / std::sqrt(squares / width + static_cast<T>(a.eps));
        for (int64_t j = 0; j < a.width; ++j) y[j] = (x[j] - mean) * r * a.weight[j] + a.bias[j];
        a.mean[i] = mean;
        a.rstd[i] = r;
    }
}

template <class T>
SIEVE_INLINE void backward_rows(const LayerNormBackward<T>& a, T* __restrict dweight, T* __restrict dbias,
                                int64_t begin, int64_t end) {
    const int64_t columns = a.width;
    const T* __restrict weight = a.weight;
    const auto width = static_cast<T>(a.width);
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * a.width;
        const T* __restrict dy = a.dy + i * a.width;
        const T r = a.rstd[i], mean = a.mean[i];
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j) {
            dweight[j] += dy[j] * (x[j] - mean) * r;
            dbias[j] += dy[j];
        }
        if (!a.dx) continue;
        T sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t j = 0; j < columns; ++j) {
            const T g = weight[j] * dy[j];
            sum += g;
            dot += g * (x[j] - mean) * r;
        }
        T* __restrict dx = a.dx + i * a.width;
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j)
            dx[j] = r * (weight[j] * dy[j] - sum / width - (x[j] - mean) * r * dot / width);
    }
}

SIEVE_CLONES void forward(const LayerNormForward<float>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void forward(const LayerNormForward<double>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void backward(const LayerNormBackward<float>& a, float* dw, float* db, int64_t b, int64_t e) {
    backward_rows(a, dw, db, b, e);
}
SIEVE_CLONES void backward(const LayerNormBackward<double>& a, double* dw, double* db, int64_t b, int64_t e) {
    backward_rows(a, dw, db, b, e);
}

}  // namespace

template <class T>
void layer_norm_forward(const LayerNormForward<T>& a) {
    parallel_for(a.rows, grain_elements / a.width + 1,
                 [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}

// dweight and dbias: partial sums of fixed chunks of rows, added in order, as in rms_norm.
template <class T>
void layer_norm_backward(const LayerNormBackward<T>& a) {
    const int64_t chunk_rows = grain_elements / a.width + 1;
    const int64_t chunks = (a.rows + chunk_rows - 1) / chunk_rows;
    std::vector<T> partial(static_cast<size_t>(2 * chunks * a.width), T(0));
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
            T* sums = partial.data() + 2 * c * a.width;
            backward(a, sums, sums + a.width, c * chunk_rows, std::min(a.rows, (c + 1) * chunk_rows));
        }
    });
    std::fill(a.dweight, a.dweight + a.width, T(0));
    std::fill(a.dbias, a.dbias + a.width, T(0));
    for (int64_t c = 0; c < chunks; ++c) {
        const T* sums = partial.data() + 2 * c * a.width;
        for (int64_t j = 0; j < a.width; ++j) {
            a.dweight[j] += sums[j];
            a.dbias[j] += sums[a.width + j];
        }
    }
}

template void layer_norm_forward(const LayerNormForward<float>&);
template void layer_norm_forward(const LayerNormForward<double>&);
template void layer_norm_backward(const LayerNormBackward<float>&);
template void layer_norm_backward(const LayerNormBackward<double>&);

}  // namespace sieve::cpu
