// One cuBLAS product a head, in place: a head's rows lie heads * width apart. 2 tokens heads N C FLOPs each.
#include "framework/blas/gemm.h"
#include "framework/core/cuda/runtime.h"
#include "framework/ops/head_linear/kernels.h"

namespace sieve::cuda {

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
    fill_zero(a.dweight, z.heads * z.block * z.columns * static_cast<int64_t>(sizeof(T)));
    for (int64_t h = 0; h < z.heads; ++h)
        gemm<T>({.transpose_a = true,
                 .m = z.count,
                 .n = z.columns,
                 .k = z.tokens,
                 .a = a.narrow + h * z.count,
                 .lda = z.heads * z.count,
                 .b = a.wide + h * z.columns,
                 .ldb = z.heads * z.columns,
                 .c = a.dweight + (h * z.block + z.first) * z.columns,
                 .ldc = z.columns});
}

template void head_linear(const HeadLinear<float>&);
template void head_linear(const HeadLinear<double>&);
template void head_linear_weight_gradient(const HeadLinearWeightGradient<float>&);
template void head_linear_weight_gradient(const HeadLinearWeightGradient<double>&);

}  // namespace sieve::cuda
