// The best keys of some rows of scores on the device.
//
// One warp a row (attention/selection/candidates.cuh): it streams the row's t + 1 scores, 128 bytes or more a
// load, through a list of candidates. Warps take rows in turns, so that their lists need no more memory than
// the device has warps.
//
// Bytes: the causal half of the scores is read once, 4 or 8 B T^2 / 2; the output is 4 B T k. At B = 1, T =
// 8192 in float32 134 MB and 4.2 (k = 128) to 67 MB (k = 2048): 0.07 to 0.1 ms at an H100's bandwidth, and
// about as much again for the cuts when k is large. Deterministic.
#pragma once

#include "framework/attention/scores/score_rows.h"
#include "framework/attention/selection/candidates.cuh"
#include "framework/core/allocator.h"

namespace sieve::cuda {

template <class T>
struct SelectRows {
    const T* scores;  // [batches, rows, T] of the chunk, read at s <= t
    RowChunk chunk;
    int64_t length, slots;
    int32_t* indices;  // [B,T,slots]: the chunk's rows are written
    int32_t* counts;   // [B,T]: likewise
};

constexpr int select_rows_warps = 4;

template <class T>
__device__ void stream_row(Candidates<T>& candidates, const T* scores, int64_t count) {
    constexpr int loads = 4;
    const int lane = threadIdx.x % warp_size;
    for (int64_t first = 0; first < count; first += loads * warp_size) {
        T score[loads];
#pragma unroll
        for (int i = 0; i < loads; ++i) {
            const int64_t s = first + i * warp_size + lane;
            score[i] = s < count ? scores[s] : T(0);
        }
#pragma unroll
        for (int i = 0; i < loads; ++i) {
            const int64_t s = first + i * warp_size + lane;
            candidates.offer(score[i], static_cast<int32_t>(s), s < count);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(select_rows_warps* warp_size)
    select_rows_kernel(SelectRows<T> a, CandidateLists<T> lists) {
    __shared__ int bins[select_rows_warps][radix_bins];
    const int warp = threadIdx.x / warp_size;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * select_rows_warps + warp,
                  step = static_cast<int64_t>(gridDim.x) * select_rows_warps;
    for (int64_t local = first; local < a.chunk.batches * a.chunk.rows; local += step) {
        const int64_t t = a.chunk.first + local % a.chunk.rows, count = t + 1;
        const int64_t row = (a.chunk.batch + local / a.chunk.rows) * a.length + t;
        int32_t* indices = a.indices + row * a.slots;
        if (threadIdx.x % warp_size == 0)
            a.counts[row] = static_cast<int32_t>(count < a.slots ? count : a.slots);
        if (count <= a.slots) {
            select_all_keys(indices, count, a.slots);
            continue;
        }
        Candidates<T> candidates(lists, first, bins[warp], {});
        stream_row(candidates, a.scores + local * a.length, count);
        candidates.write(indices);
    }
}

template <class T>
void select_rows(const SelectRows<T>& a) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const int64_t rows = a.chunk.batches * a.chunk.rows;
    const int64_t blocks =
        std::min((rows + select_rows_warps - 1) / select_rows_warps, multiprocessors() * 8);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * select_rows_warps, a.slots);
    launch_kernel(
        select_rows_kernel<T>,
        {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(select_rows_warps * warp_size)}, a,
        memory.lists);
}

}  // namespace sieve::cuda
