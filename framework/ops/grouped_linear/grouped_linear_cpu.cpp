#include "framework/blas/gemm.h"
#include "framework/ops/grouped_linear/kernels.h"

namespace sieve::cpu {

template <class T>
void grouped_linear_forward(const GroupedLinearForward<T>& a) {
    for (int64_t e = 0; e < a.experts; ++e) {
        const int64_t begin = a.offsets[e], rows = a.offsets[e + 1] - begin;
        gemm<T>({.transpose_b = true,
                 .m = rows,
                 .n = a.out,
                 .k = a.in,
                 .a = a.x + begin * a.in,
                 .lda = a.in,
                 .b = a.weights[e],
                 .ldb = a.in,
                 .c = a.y + begin * a.out,
                 .ldc = a.out});
    }
}

template <class T>
void grouped_linear_backward(const GroupedLinearBackward<T>& a) {
    for (int64_t e = 0; e < a.experts; ++e) {
        const int64_t begin = a.offsets[e], rows = a.offsets[e + 1] - begin;
        const T* dy = a.dy + begin * a.out;
        if (a.dx)
            gemm<T>({.m = rows,
                     .n = a.in,
                     .k = a.out,
                     .a = dy,
                     .lda = a.out,
                     .b = a.weights[e],
                     .ldb = a.in,
                     .c = a.dx + begin * a.in,
                     .ldc = a.in});
        if (a.dweights[e])  // without rows: k = 0, which writes zeros
            gemm<T>({.transpose_a = true,
                     .m = a.out,
                     .n = a.in,
                     .k = rows,
                     .a = dy,
                     .lda = a.out,
                     .b = a.x + begin * a.in,
                     .ldb = a.in,
                     .c = a.dweights[e],
                     .ldc = a.in});
    }
}

template void grouped_linear_forward(const GroupedLinearForward<float>&);
template void grouped_linear_forward(const GroupedLinearForward<double>&);
template void grouped_linear_backward(const GroupedLinearBackward<float>&);
template void grouped_linear_backward(const GroupedLinearBackward<double>&);

}  // namespace sieve::cpu
