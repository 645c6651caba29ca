// One warp a row (attention/selection/candidates.cuh): it streams the row's t + 1 scores, 128 bytes or more a
// load, through a list of candidates. Warps take rows in turns, so that their lists need no more memory than
// the device has warps.
//
// Bytes: the causal half of scores is read once, 4 or 8 B T^2 / 2; the output is 4 B T k. At B = 1, T = 8192
// in float32 134 MB and 4.2 (k = 128) to 67 MB (k = 2048): 0.07 to 0.1 ms at an H100's bandwidth, and about
// as much again for the cuts when k is large. Deterministic.
#include "framework/attention/selection/candidates.cuh"
#include "framework/core/allocator.h"
#include "framework/ops/top_k/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int warps = 4, loads = 4;

template <class T>
__device__ void stream_row(Candidates<T>& candidates, const T* scores, int64_t count) {
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
__global__ void __launch_bounds__(warps* warp_size) top_k_kernel(TopKSelect<T> a, CandidateLists<T> lists) {
    __shared__ int bins[warps][radix_bins];
    const int warp = threadIdx.x / warp_size;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * warps + warp,
                  step = static_cast<int64_t>(gridDim.x) * warps;
    for (int64_t row = first; row < a.batch * a.length; row += step) {
        const int64_t count = row % a.length + 1;
        int32_t* indices = a.indices + row * a.slots;
        if (threadIdx.x % warp_size == 0)
            a.counts[row] = static_cast<int32_t>(count < a.slots ? count : a.slots);
        if (count <= a.slots) {
            select_all_keys(indices, count, a.slots);
            continue;
        }
        Candidates<T> candidates(lists, first, bins[warp], {});
        stream_row(candidates, a.scores + row * a.length, count);
        candidates.write(indices);
    }
}

}  // namespace

template <class T>
void top_k_select(const TopKSelect<T>& a) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const int64_t blocks = std::min((a.batch * a.length + warps - 1) / warps, multiprocessors() * 8);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * warps, a.slots);
    launch_kernel(top_k_kernel<T>,
                  {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(warps * warp_size)}, a,
                  memory.lists);
}

template void top_k_select(const TopKSelect<float>&);
template void top_k_select(const TopKSelect<double>&);

}  // namespace sieve::cuda
