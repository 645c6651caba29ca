#include <doctest/doctest.h>

#include <vector>

#include "cuda_runtime.h"

using namespace sieve;

namespace {

__global__ void sum_kernel(const float* x, float* y, int n) {
    __shared__ float partial[8];
    float v = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) v += x[i];
    for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x != 0) return;
    float total = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) total += partial[i];
    y[blockIdx.x] = total;
}

}  // namespace

TEST_CASE("emulation: a block sum over all warps, for several seeds") {
    for (uint64_t seed = 0; seed < 5; ++seed) {
        cuda_emulation::set_seed(seed);
        std::vector<float> ones(1000, 1.0f), sums(3);
        float *x, *y;
        REQUIRE(cudaMalloc(&x, 4000) == cudaSuccess);
        REQUIRE(cudaMalloc(&y, 12) == cudaSuccess);
        cudaMemcpy(x, ones.data(), 4000, cudaMemcpyHostToDevice);
        cuda_emulation::launch([=] { sum_kernel(x, y, 1000); }, 3, 256, 0, "sum_kernel");
        cudaMemcpy(sums.data(), y, 12, cudaMemcpyDeviceToHost);
        CHECK(sums == std::vector<float>{1000, 1000, 1000});
        cudaFree(x);
        cudaFree(y);
    }
    cuda_emulation::set_seed(0);
}
