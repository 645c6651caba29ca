#include <algorithm>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/block_means/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 14;

template <class T>
SIEVE_INLINE void mean_of_rows(const T* __restrict x, int64_t rows, int64_t width, T* __restrict y) {
    std::copy(x, x + width, y);
    for (int64_t r = 1; r < rows; ++r)
        for (int64_t i = 0; i < width; ++i) y[i] += x[r * width + i];
    for (int64_t i = 0; i < width; ++i) y[i] /= static_cast<T>(rows);
}

SIEVE_CLONES void mean(const float* x, int64_t rows, int64_t width, float* y) {
    mean_of_rows(x, rows, width, y);
}
SIEVE_CLONES void mean(const double* x, int64_t rows, int64_t width, double* y) {
    mean_of_rows(x, rows, width, y);
}

}  // namespace

template <class T>
void block_means(const BlockMeans<T>& a) {
    const int64_t blocks = a.blocks(), elements = a.block * a.width;
    parallel_for(a.count * blocks, grain_elements / std::max<int64_t>(elements, 1) + 1,
                 [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i)
                         mean(a.x + (i / blocks * a.length + i % blocks * a.block) * a.width, a.block,
                              a.width, a.y + i * a.width);
                 });
}

template void block_means(const BlockMeans<float>&);
template void block_means(const BlockMeans<double>&);

}  // namespace sieve::cpu
