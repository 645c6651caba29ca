#include <cstdint>
#include <type_traits>

#include "framework/blas/kernels.h"
#include "framework/core/vectors.h"

// After the headers: whatever they define inline must stay runnable everywhere.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC target("arch=x86-64-v3")
#endif
#include "framework/blas/kernels_inl.h"

namespace sieve::cpu {

template <>
const GemmKernels<float>& gemm_kernels_avx2() {
    return KernelSet<float, 32, 6, 2>::kernels("AVX2");
}

template <>
const GemmKernels<double>& gemm_kernels_avx2() {
    return KernelSet<double, 32, 4, 3>::kernels("AVX2");
}

}  // namespace sieve::cpu
