// nvcc must accept what the emulation accepts.
#include "tests/cuda_emulation/sample_kernels.cuh"

namespace sieve::sample {

template __global__ void sum_kernel<float, true>(const float*, float*);
template __global__ void sum_kernel<double, false>(const double*, double*);
template __global__ void reverse_kernel<true>(const int*, int*);
template __global__ void stale_kernel<float>(float*, bool);
template __global__ void stale_kernel<double>(double*, bool);
template __global__ void ldmatrix_kernel<false>(const uint16_t*, uint32_t*);
template __global__ void ldmatrix_kernel<true>(const uint16_t*, uint32_t*);
template __global__ void cp_async_kernel<0>(const float4*, float*, int);

}  // namespace sieve::sample
