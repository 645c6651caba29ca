// A thread makes one element: neighbours read neighbouring columns of a row. 4 or 8 bytes an element read, as
// many over the block written. Deterministic.
#include "framework/core/cuda/launch.cuh"
#include "framework/ops/block_means/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int threads = 256;

template <class T>
__global__ void __launch_bounds__(threads) mean_kernel(BlockMeans<T> a, int64_t blocks) {
    const int64_t element = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
    if (element >= a.count * blocks * a.width) return;
    const int64_t i = element % a.width, block = element / a.width;
    const T* x = a.x + (block / blocks * a.length + block % blocks * a.block) * a.width + i;
    T sum = x[0];
    for (int64_t r = 1; r < a.block; ++r) sum += x[r * a.width];
    a.y[element] = sum / static_cast<T>(a.block);
}

}  // namespace

template <class T>
void block_means(const BlockMeans<T>& a) {
    const int64_t elements = a.count * a.blocks() * a.width;
    launch_kernel(mean_kernel<T>, {.blocks = dim3(blocks_for(elements, threads)), .threads = dim3(threads)},
                  a, a.blocks());
}

template void block_means(const BlockMeans<float>&);
template void block_means(const BlockMeans<double>&);

}  // namespace sieve::cuda
