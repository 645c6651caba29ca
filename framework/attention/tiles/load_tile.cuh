// Private to this room.
// How the tile kernels bring rows into shared memory.
#pragma once

#include "framework/core/cuda/mma.cuh"
#include "framework/core/cuda/packs.cuh"

namespace sieve::cuda {

// shared[i] = columns [column, column + width) of row first + i, zeros from row `rows` on. Asynchronous.
template <int threads, int tile_rows, int width, class E>
__device__ void load_tile(E* shared, int pitch, const E* head, int64_t stride, int first, int rows,
                          int64_t column = 0) {
    constexpr int n = full_pack<E>, packs = width / n;
#pragma unroll
    for (int i = 0; i < tile_rows * packs / threads; ++i) {
        const int at = i * threads + threadIdx.x, row = at / packs, pack = at % packs;
        const bool inside = first + row < rows;
        cp_async_16(shared + row * pitch + pack * n,
                    head + (inside ? first + row : 0) * stride + column + pack * n, inside ? 16 : 0);
    }
}

}  // namespace sieve::cuda
