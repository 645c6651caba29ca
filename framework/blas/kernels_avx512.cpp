#include <cstdint>
#include <type_traits>

#include "framework/blas/kernels.h"
#include "framework/core/vectors.h"

// After the headers: whatever they define inline must stay runnable everywhere.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC target("arch=x86-64-v4")
#endif
#include "framework/blas/kernels_inl.h"

namespace sieve::cpu {

template <>
const GemmKernels<float>& gemm_kernels_avx512() {
    return KernelSet<float, 64, 12, 2>::kernels("AVX-512");
}

template <>
const GemmKernels<double>& gemm_kernels_avx512() {
    return KernelSet<double, 64, 8, 3>::kernels("AVX-512");
}

}  // namespace sieve::cpu
