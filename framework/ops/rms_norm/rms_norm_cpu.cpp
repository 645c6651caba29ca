#include <cmath>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/rms_norm/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 14;

// One clone per element type: target_clones cannot be applied to a template.
template <class T>
SIEVE_INLINE void forward_rows(const RmsNormForward<T>& a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * a.width;
        T* __restrict y = a.y + i * a.width;
        T squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < a.width; ++j) squares += x[j] * x[j];
        const T r = T(1) / std::sqrt(squares / static_cast<T>(a.width) + static_cast<T>(a.eps));
        for (int64_t j = 0; j < a.width; ++j) y[j] = x[j] * r * a.weight[j];
        a.rstd[i] = r;
    }
}

template <class T>
SIEVE_INLINE void backward_rows(const RmsNormBackward<T>& a, T* __restrict dweight, int64_t begin,
                                int64_t end) {
    const int64_t width = a.width;  // a local copy: the compiler cannot know that no store below changes `a`
    const T* __restrict weight = a.weight;
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * width;
        const T* __restrict dy = a.dy + i * width;
        const T r = a.rstd[i];
        if (a.dx) {
            T dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t j = 0; j < width; ++j) dot += x[j] * weight[j] * dy[j];
            const T c = r * r * r * dot / static_cast<T>(width);
            T* __restrict dx = a.dx + i * width;
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) dx[j] = r * weight[j] * dy[j] - c * x[j];
        }
        if (!dweight) continue;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) dweight[j] += dy[j] * x[j] * r;
    }
}

SIEVE_CLONES void forward(const RmsNormForward<float>& a, int64_t begin, int64_t end) {
    forward_rows(a, begin, end);
}
SIEVE_CLONES void forward(const RmsNormForward<double>& a, int64_t begin, int64_t end) {
    forward_rows(a, begin, end);
}
SIEVE_CLONES void backward(const RmsNormBackward<float>& a, float* dweight, int64_t begin, int64_t end) {
    backward_rows(a, dweight, begin, end);
}
SIEVE_CLONES void backward(const RmsNormBackward<double>& a, double* dweight, int64_t begin, int64_t end) {
    backward_rows(a, dweight, begin, end);
}

}  // namespace

template <class T>
void rms_norm_forward(const RmsNormForward<T>& a) {
    parallel_for(a.rows, grain_elements / a.width + 1,
                 [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}

// dweight sums over rows. Rows are cut into a fixed number of chunks whose partial sums are added in order,
// so the result does not depend on how many threads ran.
template <class T>
void rms_norm_backward(const RmsNormBackward<T>& a) {
    const int64_t chunk_rows = grain_elements / a.width + 1;
    const int64_t chunks = (a.rows + chunk_rows - 1) / chunk_rows;
    std::vector<T> partial(a.dweight ? static_cast<size_t>(chunks * a.width) : 0, T(0));
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
            backward(a, a.dweight ? partial.data() + c * a.width : nullptr, c * chunk_rows,
                     std::min(a.rows, (c + 1) * chunk_rows));
    });
    if (!a.dweight) return;
    std::fill(a.dweight, a.dweight + a.width, T(0));
    for (int64_t c = 0; c < chunks; ++c)
        for (int64_t j = 0; j < a.width; ++j) a.dweight[j] += partial[static_cast<size_t>(c * a.width + j)];
}

template void rms_norm_forward(const RmsNormForward<float>&);
template void rms_norm_forward(const RmsNormForward<double>&);
template void rms_norm_backward(const RmsNormBackward<float>&);
template void rms_norm_backward(const RmsNormBackward<double>&);

}  // namespace sieve::cpu
