// Elementwise kernels: one function of the element's index, run once for each element.
#pragma once

#include "framework/core/cuda/launch.cuh"

namespace sieve::cuda {

constexpr int elementwise_threads = 256;

template <class F>
__global__ void __launch_bounds__(elementwise_threads) elementwise_kernel(int64_t count, F f) {
    const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
        f(i);
}

// Calls f(i) on the device for each i in [0, count). f is a __device__ lambda (or function object) that
// captures by value. Blocks are capped: beyond that each thread walks the elements with the stride of the
// grid.
template <class F>
void for_each_element(int64_t count, const F& f) {
    constexpr int64_t most_blocks = 132 * 16;  // fills the largest GPU of today several times
    const int64_t blocks = (count + elementwise_threads - 1) / elementwise_threads;
    launch_kernel(elementwise_kernel<F>,
                  {.blocks = dim3(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks)),
                   .threads = dim3(elementwise_threads)},
                  count, f);
}

}  // namespace sieve::cuda
