// Sums over rows, the second half of a gradient that every row adds to: teams of rows (rows.cuh) add up their
// own, and what each block found is added here. Deterministic: both halves deal out rows by the shape alone.
#pragma once

#include "framework/core/cuda/rows.cuh"

namespace sieve::cuda {

// Blocks that add up rows side by side: two rows to a team at least, and at most what fills a large GPU.
template <class Team>
int64_t summing_blocks(int64_t rows) {
    constexpr int64_t most = 132 * 4;
    const int64_t wanted = blocks_for(rows, 2 * Team::count);
    return wanted < most ? wanted : most;
}

// Where a team adds up: its own part of the block's dynamic shared memory, [Team::count, width], or, when the
// block is one team, the block's row of partial sums itself.
template <class Team, class T>
__device__ inline T* team_sums(const Team& team, T* block_sums, int64_t width) {
    if constexpr (Team::count == 1) return block_sums;
    return dynamic_shared<T>() + team.index() * width;
}
template <class Team, class T>
size_t team_sums_bytes(int64_t width) {
    return Team::count == 1 ? 0 : static_cast<size_t>(Team::count * width) * sizeof(T);
}

// Adds up what the block's teams found, in their order. All threads call it.
template <class Team, class T>
__device__ inline void join_team_sums(T* block_sums, int64_t width) {
    if constexpr (Team::count == 1) return;
    __syncthreads();
    const T* sums = dynamic_shared<T>();
    for (int64_t j = threadIdx.x; j < width; j += row_threads) {
        T total = 0;
        for (int team = 0; team < Team::count; ++team) total += sums[team * width + j];
        block_sums[j] = total;
    }
}

template <class T>
struct ColumnSums {
    const T* x;  // [rows, stride], of which the first `width` columns are added up
    int64_t rows, stride, width;
    T* sums;  // [width]
};

// A block holds 32 columns; warp w adds up rows w, w + 32, ... in float64, then the warps' sums are added in
// order.
template <class T>
__global__ void __launch_bounds__(warp_size* warp_size) column_sums_kernel(ColumnSums<T> a) {
    __shared__ double parts[warp_size][warp_size];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int64_t j = static_cast<int64_t>(blockIdx.x) * warp_size + lane;
    double sum = 0;
    if (j < a.width) {
#pragma unroll 4
        for (int64_t i = warp; i < a.rows; i += warp_size) sum += static_cast<double>(a.x[i * a.stride + j]);
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || j >= a.width) return;
    double total = 0;
    for (int w = 0; w < warp_size; ++w) total += parts[w][lane];
    a.sums[j] = static_cast<T>(total);
}

template <class T>
void column_sums(const ColumnSums<T>& a) {
    launch_kernel(column_sums_kernel<T>,
                  {.blocks = dim3(blocks_for(a.width, warp_size)), .threads = dim3(warp_size * warp_size)},
                  a);
}

}  // namespace sieve::cuda
