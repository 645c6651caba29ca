// Reductions within a warp and within a block. Every thread takes part and every thread gets the result; the
// order of the additions depends on the block size alone, so the bits do not change from run to run.
#pragma once

#include <cstdint>

#include "framework/core/cuda/launch.cuh"

namespace sieve::cuda {

constexpr unsigned whole_warp = 0xffffffffu;
constexpr int warp_size = 32;

struct Sum {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
};
struct Max {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a < b ? b : a;
    }
};

// Butterfly: all lanes end with the bits of one and the same tree.
template <class T, class Operation>
__device__ inline T warp_reduce(T value, Operation op) {
    for (int offset = warp_size / 2; offset > 0; offset /= 2)
        value = op(value, __shfl_xor_sync(whole_warp, value, offset));
    return value;
}

// `scratch`: shared memory for 32 values, which may be used again after the call. The block is a whole number
// of warps; `identity` is what the operation leaves a value unchanged with.
template <class T, class Operation>
__device__ inline T block_reduce(T value, T identity, Operation op, T* scratch) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int warps = blockDim.x / warp_size;
    value = warp_reduce(value, op);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = warp_reduce(lane < warps ? scratch[lane] : identity, op);
    __syncthreads();
    return value;
}

}  // namespace sieve::cuda
