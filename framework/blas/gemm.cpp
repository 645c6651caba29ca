#include "framework/blas/gemm.h"

#include <algorithm>
#include <string>

#include "framework/blas/float_operands_inl.h"
#include "framework/blas/kernels.h"
#include "framework/core/error.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"

namespace sieve::cpu {
namespace {

template <class T>
const GemmKernels<T>& best_kernels() {
    static const GemmKernels<T>& best = *supported_gemm_kernels<T>().front();
    return best;
}

template <class T>
void multiply_at_precision(const Gemm<T>& g, bool lower_only) {
    const PackedParts* packed = nullptr;
    if constexpr (std::is_same_v<T, float>) {
        if (precision() == Precision::bf16) return bf16_gemm(g, lower_only);
        packed = packed_parts(g);
    }
    multiply(FloatOperands<T>(best_kernels<T>()), g, lower_only, packed);
}

// Rows [i, i + rows) of the lower triangle become columns [i, i + rows) of the upper one.
template <class T>
void mirror_rows(const GemmKernels<T>& kernels, T* c, int64_t ldc, int64_t i, int64_t rows) {
    const int64_t width = kernels.tile_columns, end = i + rows;
    T* panel = scratch<T>(0, end * width + 64);
    kernels.pack_b_transposed({.source = c + i * ldc, .ld = ldc, .k = end, .count = rows, .panel = panel});
    for (int64_t j = 0; j < end; ++j) {
        const int64_t first = std::max<int64_t>(0, j + 1 - i);
        std::copy(panel + j * width + first, panel + j * width + rows, c + j * ldc + i + first);
    }
}

template <class T>
void mirror_lower(const GemmKernels<T>& kernels, T* c, int64_t n, int64_t ldc) {
    const int64_t width = kernels.tile_columns, tasks = ceil_div(n, width);
    // From the bottom up: the longest first.
    const auto task = [&](int64_t t) {
        const int64_t i = (tasks - 1 - t) * width;
        mirror_rows(kernels, c, ldc, i, std::min(width, n - i));
    };
    if (n >= 256) return parallel_tasks(tasks, task);
    for (int64_t t = 0; t < tasks; ++t) task(t);
}

}  // namespace

template <class T>
std::vector<const GemmKernels<T>*> supported_gemm_kernels() {
    std::vector<const GemmKernels<T>*> sets;
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v4")) sets.push_back(&gemm_kernels_avx512<T>());
    if (__builtin_cpu_supports("x86-64-v3")) sets.push_back(&gemm_kernels_avx2<T>());
#endif
    sets.push_back(&gemm_kernels_baseline<T>());
    return sets;
}

PackedParts pack_parts(const Gemm<float>& g) {
    if (precision() == Precision::bf16) return pack_bf16_parts(g);
    return pack_with(FloatOperands<float>(best_kernels<float>()), g);
}

template <class T>
void gemm_with(const GemmKernels<T>& kernels, const Gemm<T>& g) {
    multiply(FloatOperands<T>(kernels), g, false);
}

template <class T>
void gemm(const Gemm<T>& g) {
    multiply_at_precision(g, false);
}

template <class T>
void reserve_gemm(const Gemm<T>& g) {
    if constexpr (std::is_same_v<T, float>)
        if (precision() == Precision::bf16) return reserve_bf16_gemm(g);
    reserve(FloatOperands<T>(best_kernels<T>()), g);
}

template <class T>
void gemm_symmetric(const Gemm<T>& g) {
    if (g.m != g.n)
        fail("gemm_symmetric: C is [" + std::to_string(g.m) + "," + std::to_string(g.n) + "], want a square");
    multiply_at_precision(g, true);
    mirror_lower(best_kernels<T>(), g.c, g.n, g.ldc);
}

template <class T>
void gemm_batched(const Gemm<T>& g, const GemmBatch& batch) {
    const auto one = [&](int64_t i) {
        Gemm<T> product = g;
        product.a += i * batch.stride_a;
        product.b += i * batch.stride_b;
        product.c += i * batch.stride_c;
        gemm(product);
    };
    if (batch.count >= thread_count()) return parallel_tasks(batch.count, one);
    for (int64_t i = 0; i < batch.count; ++i) one(i);
}

std::string gemm_backend() {
    if (precision() == Precision::bf16) return "own kernels, bf16 by " + bf16_products().by;
    const GemmKernels<float>& k = best_kernels<float>();
    return std::string("own kernels, ") + k.name + ", " + std::to_string(k.tile_rows) + "x" +
           std::to_string(k.tile_columns) + " tiles";
}

#define SIEVE_INSTANTIATE(T)                                                 \
    template std::vector<const GemmKernels<T>*> supported_gemm_kernels<T>(); \
    template void gemm_with(const GemmKernels<T>&, const Gemm<T>&);          \
    template void gemm(const Gemm<T>&);                                      \
    template void reserve_gemm(const Gemm<T>&);                              \
    template void gemm_symmetric(const Gemm<T>&);                            \
    template void gemm_batched(const Gemm<T>&, const GemmBatch&);
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
#undef SIEVE_INSTANTIATE

}  // namespace sieve::cpu
