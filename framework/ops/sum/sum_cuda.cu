// forward: a block adds up 16384 elements in float64 (a thread 64 of them, then a tree), and a single block
// adds up what the blocks found. 4 bytes an element. backward: a thread writes one pack of 16 bytes.
// Deterministic: the order of the additions depends on the number of elements alone.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"
#include "framework/ops/sum/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t chunk = 1 << 14;

template <class T>
__global__ void __launch_bounds__(threads) chunk_sums(SumForward<T> a, double* sums) {
    __shared__ double scratch[warp_size];
    const int64_t begin = blockIdx.x * chunk;
    const int64_t end = begin + chunk < a.count ? begin + chunk : a.count;
    double sum = 0;
#pragma unroll 8
    for (int64_t i = begin + threadIdx.x; i < end; i += threads) sum += static_cast<double>(a.x[i]);
    sum = block_reduce(sum, 0.0, Sum(), scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(threads) total_sum(const double* sums, int64_t count, T* y) {
    __shared__ double scratch[warp_size];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += threads) sum += sums[i];
    sum = block_reduce(sum, 0.0, Sum(), scratch);
    if (threadIdx.x == 0) *y = static_cast<T>(sum);
}

}  // namespace

template <class T>
void sum_forward(const SumForward<T>& args) {
    const int64_t chunks = blocks_for(args.count, chunk);
    const Tensor sums = Tensor::empty({chunks}, DType::float64, device);
    launch_kernel(chunk_sums<T>, {.blocks = dim3(chunks), .threads = dim3(threads)}, args,
                  sums.data<double>());
    launch_kernel(total_sum<T>, {.blocks = dim3(1), .threads = dim3(threads)}, sums.data<double>(), chunks,
                  args.y);
}

template <class T>
void sum_backward(const SumBackward<T>& args) {
    const T* const dy = args.dy;
    map_elements(args.count, args.dx, [dy] __device__() { return *dy; });
}

template void sum_forward(const SumForward<float>&);
template void sum_forward(const SumForward<double>&);
template void sum_backward(const SumBackward<float>&);
template void sum_backward(const SumBackward<double>&);

}  // namespace sieve::cuda
