// Kernels that work row by row. A row belongs to a team: a warp when the row is narrow, a block when it is
// wide. Thread r of a team holds the packs r, r + size, r + 2 size, ... of n neighbouring elements, so that a
// column is always the same thread's. What is read twice comes from the L1 cache the second time.
#pragma once

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

constexpr int row_threads = 256;  // of a block

struct WarpTeam {
    static constexpr int size = warp_size;
    static constexpr int count = row_threads / size;  // teams in a block

    __device__ int index() const { return threadIdx.x / size; }
    __device__ int rank() const { return threadIdx.x % size; }
    template <class T, class Operation>
    __device__ T reduce(T value, T, Operation op) const {
        return warp_reduce(value, op);
    }
};

struct BlockTeam {
    static constexpr int size = row_threads;
    static constexpr int count = 1;

    __device__ int index() const { return 0; }
    __device__ int rank() const { return threadIdx.x; }
    template <class T, class Operation>
    __device__ T reduce(T value, T identity, Operation op) const {
        __shared__ T scratch[warp_size];
        return block_reduce(value, identity, op, scratch);
    }
};

template <class Team, class T>
__device__ inline T team_sum(const Team& team, T value) {
    return team.reduce(value, T(0), Sum());
}

// A thread's next `count` packs of a row, all of them asked for before the first is used.
template <class T, int n, int count>
struct PackGroup {
    Pack<T, n> packs[count] = {};

    __device__ PackGroup(const T* row, int64_t first, int64_t step, int64_t width) {
#pragma unroll
        for (int u = 0; u < count; ++u)
            if (first + u * step < width) packs[u] = load_pack<n>(row + first + u * step);
    }
};

// Calls f(j, pack of each of the rows) for each pack of this thread; j is the pack's first column.
template <int n, class Team, class F, class... T>
__device__ inline void for_each_pack(const Team& team, int64_t width, const F& f, const T*... rows) {
    // For enough loads, and no more registers.
    constexpr int group = (sizeof(T) + ... + 0) == sizeof(float) ? 4 : 2;
    constexpr int step = Team::size * n;
    for (int64_t first = team.rank() * n; first < width; first += group * step) {
        const auto use = [&](const auto&... groups) {
#pragma unroll
            for (int u = 0; u < group; ++u)
                if (first + u * step < width) f(first + u * step, groups.packs[u]...);
        };
        use(PackGroup<T, n, group>(rows, first, step, width)...);
    }
}

// Calls f.template operator()<n, Team>() with what suits rows of `width` elements; `packs`: all pointers
// start packs.
template <class T, class F>
void with_row_shape(int64_t width, bool packs, F&& f) {
    constexpr int pack = full_pack<T>;
    constexpr int64_t widest_of_a_warp = 4096 / sizeof(T);
    const bool narrow = width <= widest_of_a_warp;
    if (packs && width % pack == 0)
        narrow ? f.template operator()<pack, WarpTeam>() : f.template operator()<pack, BlockTeam>();
    else
        narrow ? f.template operator()<1, WarpTeam>() : f.template operator()<1, BlockTeam>();
}

// One team a row.
template <class Team>
Grid row_grid(int64_t rows) {
    return {.blocks = dim3(blocks_for(rows, Team::count)), .threads = dim3(row_threads)};
}

// The row of a team of such a grid; it may lie beyond the last one.
template <class Team>
__device__ inline int64_t own_row(const Team& team) {
    return static_cast<int64_t>(blockIdx.x) * Team::count + team.index();
}

}  // namespace sieve::cuda
