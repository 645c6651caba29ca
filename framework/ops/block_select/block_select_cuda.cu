// One warp a row (attention/selection/candidates.cuh): its lanes score 32 blocks at a time (attention/scores/
// query_row.cuh) and offer them to a list of candidates, which leaves the best in ascending order; then each
// lane writes every 32nd slot. Warps take rows in turns, so that their lists need no more memory than the
// device has warps.
//
// FLOPs: B T^2 / n times the width of all heads. Bytes: means from the caches; 4 B T k written.
// Deterministic.
#include "framework/attention/scores/query_row.cuh"
#include "framework/attention/selection/candidates.cuh"
#include "framework/core/allocator.h"
#include "framework/ops/block_select/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int warps = 4;

// The past blocks that a row reads into `chosen`, ascending.
template <class T>
__device__ void choose_blocks(const BlockSelect<T>& a, int64_t b, int64_t i, const BlockRow& row,
                              CandidateLists<T> lists, int64_t list, int* bins, int32_t* chosen) {
    const int lane = threadIdx.x % warp_size;
    if (row.chosen == 0 || row.chosen == row.past) {
        for (int64_t j = lane; j < row.chosen; j += warp_size) chosen[j] = static_cast<int32_t>(j);
        return;
    }
    const int64_t key_head = a.blocks_each * a.rows.width;
    const QueryRow<T> query = a.rows.row(b, i, key_head);
    const T* means = a.means + b * a.rows.key_heads * key_head;
    lists.wanted = static_cast<int>(row.chosen);
    Candidates<T> candidates(lists, list, bins, {});
    for (int64_t first = 0; first < row.past; first += warp_size) {
        const int64_t j = first + lane;
        const bool there = j < row.past;
        candidates.offer(there ? score_key(query, means + j * a.rows.width) : T(0), static_cast<int32_t>(j),
                         there);
    }
    candidates.write(chosen);
}

template <class T>
__global__ void __launch_bounds__(warps* warp_size) select_kernel(BlockSelect<T> a, CandidateLists<T> lists) {
    __shared__ int bins[warps][radix_bins];
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int64_t list = static_cast<int64_t>(blockIdx.x) * warps + warp,
                  step = static_cast<int64_t>(gridDim.x) * warps;
    int32_t* chosen = lists.indices + list * lists.capacity;
    for (int64_t r = list; r < a.rows.batch * a.rows.queries; r += step) {
        const int64_t i = r % a.rows.queries;
        const BlockRow row(a.length - a.rows.queries + i, a.block, a.slots);
        choose_blocks(a, r / a.rows.queries, i, row, lists, list, bins[warp], chosen);
        __syncwarp();
        if (lane == 0) a.counts[r] = static_cast<int32_t>(row.count);
        for (int64_t slot = lane; slot < a.slots; slot += warp_size)
            a.indices[r * a.slots + slot] = slot < row.count ? row.key(chosen, a.block, slot) : 0;
        __syncwarp();
    }
}

}  // namespace

template <class T>
void block_select(const BlockSelect<T>& a) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const int64_t rows = a.rows.batch * a.rows.queries;
    const int64_t blocks = std::min((rows + warps - 1) / warps, multiprocessors() * 8);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * warps, (a.slots + a.block - 1) / a.block);
    launch_kernel(select_kernel<T>,
                  {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(warps * warp_size)}, a,
                  memory.lists);
}

template void block_select(const BlockSelect<float>&);
template void block_select(const BlockSelect<double>&);

}  // namespace sieve::cuda
