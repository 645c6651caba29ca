// The sort: one block an expert. A block counts the slots of smaller experts, which is where its own begin,
// then walks all slots 256 at a time and gives its own consecutive positions: stable, without atomics, the
// same bits each time. All blocks read all slots (16 KB in the medium preset, from the L2 cache).
//
// The moves: one thread an element of the [tokens, width] side, neighbours in a row. Bandwidth bound: (1 + K)
// tokens width elements.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/ops/moe_dispatch/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int sort_threads = 256, sort_warps = sort_threads / warp_size;

__global__ void __launch_bounds__(sort_threads) dispatch_sort_kernel(DispatchSort a) {
    __shared__ int64_t scratch[warp_size];
    __shared__ int warp_counts[sort_warps];
    const int32_t expert = static_cast<int32_t>(blockIdx.x);
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    int64_t smaller = 0, own = 0;
    for (int64_t s = threadIdx.x; s < a.slots; s += sort_threads) {
        smaller += a.experts[s] < expert;
        own += a.experts[s] == expert;
    }
    smaller = block_reduce(smaller, int64_t{0}, Sum{}, scratch);
    own = block_reduce(own, int64_t{0}, Sum{}, scratch);
    if (threadIdx.x == 0) a.offsets[expert] = smaller;
    if (threadIdx.x == 0 && expert == a.num_experts - 1) a.offsets[a.num_experts] = smaller + own;

    int64_t next = smaller;
    for (int64_t base = 0; base < a.slots; base += sort_threads) {
        const int64_t s = base + threadIdx.x;
        const bool mine = s < a.slots && a.experts[s] == expert;
        const unsigned lanes = __ballot_sync(whole_warp, mine);
        if (lane == 0) warp_counts[warp] = __popc(lanes);
        __syncthreads();
        int before = __popc(lanes & ((1u << lane) - 1)), total = 0;
        for (int w = 0; w < sort_warps; ++w) {
            if (w < warp) before += warp_counts[w];
            total += warp_counts[w];
        }
        if (mine) {
            a.order[next + before] = static_cast<int32_t>(s);
            a.position[s] = static_cast<int32_t>(next + before);
        }
        next += total;
        __syncthreads();
    }
}

}  // namespace

void dispatch_sort(const DispatchSort& a) {
    launch_kernel(dispatch_sort_kernel,
                  {.blocks = dim3(static_cast<unsigned>(a.num_experts)), .threads = dim3(sort_threads)}, a);
}

template <class T>
void moe_dispatch_forward(const MoeDispatchForward<T>& a) {
    for_each_element(a.tokens * a.top_k * a.width, [a] __device__(int64_t i) {
        const int64_t slot = i / a.width, column = i % a.width;
        a.y[a.position[slot] * a.width + column] = a.x[slot / a.top_k * a.width + column];
    });
}

template <class T>
void moe_dispatch_backward(const MoeDispatchBackward<T>& a) {
    for_each_element(a.tokens * a.width, [a] __device__(int64_t i) {
        const int64_t token = i / a.width, column = i % a.width;
        const int32_t* position = a.position + token * a.top_k;
        T sum = a.dy[position[0] * a.width + column];
        for (int64_t j = 1; j < a.top_k; ++j) sum += a.dy[position[j] * a.width + column];
        a.dx[i] = sum;
    });
}

template void moe_dispatch_forward(const MoeDispatchForward<float>&);
template void moe_dispatch_forward(const MoeDispatchForward<double>&);
template void moe_dispatch_backward(const MoeDispatchBackward<float>&);
template void moe_dispatch_backward(const MoeDispatchBackward<double>&);

}  // namespace sieve::cuda
