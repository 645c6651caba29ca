// Elementwise kernels: one function of the element's index or of the operands' elements, run once for each
// element.
#pragma once

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/packs.cuh"

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

// One pack a thread; the last one may be short.
template <int n, class T, class F, class... In>
__global__ void __launch_bounds__(elementwise_threads)
    map_kernel(int64_t count, T* y, F f, const In*... inputs) {
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * n;
    if (first + n > count) {
        for (int64_t i = first; i < count; ++i) y[i] = f(inputs[i]...);
        return;
    }
    Pack<T, n> result;
    const auto apply = [&](const auto&... packs) {
#pragma unroll
        for (int e = 0; e < n; ++e) result.at[e] = f(packs.at[e]...);
    };
    apply(load_pack<n>(inputs + first)...);
    store_pack(y + first, result);
}

// y[i] = f(inputs[i]...) for each i in [0, count), at the speed of the memory. y may be one of the inputs.
template <class T, class F, class... In>
void map_elements(int64_t count, T* y, const F& f, const In*... inputs) {
    constexpr int pack = full_pack<T>;
    if (start_packs(y, inputs...))
        launch_kernel(
            map_kernel<pack, T, F, In...>,
            {.blocks = dim3(blocks_for(count, pack * elementwise_threads)), .threads = elementwise_threads},
            count, y, f, inputs...);
    else
        launch_kernel(
            map_kernel<1, T, F, In...>,
            {.blocks = dim3(blocks_for(count, elementwise_threads)), .threads = elementwise_threads}, count,
            y, f, inputs...);
}

}  // namespace sieve::cuda
