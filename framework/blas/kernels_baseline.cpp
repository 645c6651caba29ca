#include <cstdint>
#include <type_traits>

#include "framework/blas/kernels.h"
#include "framework/core/vectors.h"

// After the headers, as in the other two files.
#include "framework/blas/kernels_inl.h"

namespace sieve::cpu {

template <>
const GemmKernels<float>& gemm_kernels_baseline() {
    return KernelSet<float, 16, 4, 3>::kernels("128-bit vectors");
}

template <>
const GemmKernels<double>& gemm_kernels_baseline() {
    return KernelSet<double, 16, 4, 3>::kernels("128-bit vectors");
}

}  // namespace sieve::cpu
