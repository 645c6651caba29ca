#include <algorithm>

#include "framework/blas/gemm.h"
#include "framework/ops/head_linear/kernels.h"

namespace sieve::cpu {

template <class T>
void head_linear(const HeadLinear<T>& a) {
    const HeadLinearSizes& z = a.size;
    const int64_t in = a.transposed ? z.count : z.columns, out = a.transposed ? z.columns : z.count;
    for (int64_t h = 0; h < z.heads; ++h)
        gemm<T>({.transpose_b = !a.transposed,
                 .m = z.tokens,
                 .n = out,
                 .k = in,
                 .a = a.x + h * in,
                 .lda = z.heads * in,
                 .b = a.weight + (h * z.block + z.first) * z.columns,
                 .ldb = z.columns,
                 .c = a.y + h * out,
                 .ldc = z.heads * out});
}

template <class T>
void head_linear_weight_gradient(const HeadLinearWeightGradient<T>& a) {
    const HeadLinearSizes& z = a.size;
    for (int64_t h = 0; h < z.heads; ++h) {
        T* block = a.dweight + h * z.block * z.columns;
        std::fill(block, block + z.first * z.columns, T(0));
        gemm<T>({.transpose_a = true,
                 .m = z.count,
                 .n = z.columns,
                 .k = z.tokens,
                 .a = a.narrow + h * z.count,
                 .lda = z.heads * z.count,
                 .b = a.wide + h * z.columns,
                 .ldb = z.heads * z.columns,
                 .c = block + z.first * z.columns,
                 .ldc = z.columns});
        std::fill(block + (z.first + z.count) * z.columns, block + z.block * z.columns, T(0));
    }
}

template void head_linear(const HeadLinear<float>&);
template void head_linear(const HeadLinear<double>&);
template void head_linear_weight_gradient(const HeadLinearWeightGradient<float>&);
template void head_linear_weight_gradient(const HeadLinearWeightGradient<double>&);

}  // namespace sieve::cpu
