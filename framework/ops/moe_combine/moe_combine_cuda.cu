// Forward: one thread an element of out, which adds up its K rows in order. Backward: one warp a slot, whose
// lanes walk the row once for both dy and the dot product dweights. Bandwidth bound: (1 + K) and (1 + 3 K)
// tokens width elements. Deterministic: fixed orders, no sharing.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/ops/moe_combine/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int backward_threads = 128, slots_per_block = backward_threads / warp_size;

template <class T>
__global__ void __launch_bounds__(backward_threads) moe_combine_backward_kernel(MoeCombineBackward<T> a) {
    const int64_t slot = static_cast<int64_t>(blockIdx.x) * slots_per_block + threadIdx.x / warp_size;
    if (slot >= a.tokens * a.top_k) return;
    const T* dout = a.dout + slot / a.top_k * a.width;
    const int64_t row = a.position[slot] * a.width;
    const T weight = a.weights[slot];
    T dot = 0;
    for (int64_t i = threadIdx.x % warp_size; i < a.width; i += warp_size) {
        dot += dout[i] * a.y[row + i];
        if (a.dy) a.dy[row + i] = weight * dout[i];
    }
    dot = warp_reduce(dot, Sum{});
    if (a.dweights && threadIdx.x % warp_size == 0) a.dweights[slot] = dot;
}

}  // namespace

template <class T>
void moe_combine_forward(const MoeCombineForward<T>& a) {
    for_each_element(a.tokens * a.width, [a] __device__(int64_t i) {
        const int64_t token = i / a.width, column = i % a.width;
        T sum = 0;
        for (int64_t slot = token * a.top_k; slot < (token + 1) * a.top_k; ++slot)
            sum += a.weights[slot] * a.y[a.position[slot] * a.width + column];
        a.out[i] = sum;
    });
}

template <class T>
void moe_combine_backward(const MoeCombineBackward<T>& a) {
    launch_kernel(
        moe_combine_backward_kernel<T>,
        {.blocks = dim3(blocks_for(a.tokens * a.top_k, slots_per_block)), .threads = dim3(backward_threads)},
        a);
}

template void moe_combine_forward(const MoeCombineForward<float>&);
template void moe_combine_forward(const MoeCombineForward<double>&);
template void moe_combine_backward(const MoeCombineBackward<float>&);
template void moe_combine_backward(const MoeCombineBackward<double>&);

}  // namespace sieve::cuda
