#include <algorithm>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/add_bias/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 15;

template <class T>
SIEVE_INLINE void forward_rows(const AddBiasForward<T>& a, int64_t begin, int64_t end) {
    const T* __restrict bias = a.bias;
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict x = a.x + i * a.width;
        T* __restrict y = a.y + i * a.width;
        for (int64_t j = 0; j < a.width; ++j) y[j] = x[j] + bias[j];
    }
}

template <class T>
SIEVE_INLINE void sum_rows(const AddBiasBackward<T>& a, T* __restrict sums, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const T* __restrict dy = a.dy + i * a.width;
        for (int64_t j = 0; j < a.width; ++j) sums[j] += dy[j];
    }
}

SIEVE_CLONES void forward(const AddBiasForward<float>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void forward(const AddBiasForward<double>& a, int64_t b, int64_t e) {
    forward_rows(a, b, e);
}
SIEVE_CLONES void backward(const AddBiasBackward<float>& a, float* sums, int64_t b, int64_t e) {
    sum_rows(a, sums, b, e);
}
SIEVE_CLONES void backward(const AddBiasBackward<double>& a, double* sums, int64_t b, int64_t e) {
    sum_rows(a, sums, b, e);
}

}  // namespace

template <class T>
void add_bias_forward(const AddBiasForward<T>& a) {
    parallel_for(a.rows, grain_elements / a.width + 1,
                 [&](int64_t begin, int64_t end) { forward(a, begin, end); });
}

// Partial sums of fixed chunks of rows, added in order, as in rms_norm.
template <class T>
void add_bias_backward(const AddBiasBackward<T>& a) {
    const int64_t chunk_rows = grain_elements / a.width + 1;
    const int64_t chunks = (a.rows + chunk_rows - 1) / chunk_rows;
    std::vector<T> partial(static_cast<size_t>(chunks * a.width), T(0));
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
            backward(a, partial.data() + c * a.width, c * chunk_rows, std::min(a.rows, (c + 1) * chunk_rows));
    });
    std::fill(a.dbias, a.dbias + a.width, T(0));
    for (int64_t c = 0; c < chunks; ++c)
        for (int64_t j = 0; j < a.width; ++j) a.dbias[j] += partial[static_cast<size_t>(c * a.width + j)];
}

template void add_bias_forward(const AddBiasForward<float>&);
template void add_bias_forward(const AddBiasForward<double>&);
template void add_bias_backward(const AddBiasBackward<float>&);
template void add_bias_backward(const AddBiasBackward<double>&);

}  // namespace sieve::cpu
