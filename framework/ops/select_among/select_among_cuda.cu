// One warp a row (attention/selection/candidates.cuh): its lanes score 32 candidates at a time
// (attention/scores/query_row.cuh) and offer their places to a list, which leaves the best in ascending
// order. Warps take rows in turns, so that their lists need no more memory than the device has warps.
//
// FLOPs: 2 B T HI dI a candidate. Bytes: keys from the caches; the candidates read, 4 B T k written.
// Deterministic.
#include "framework/attention/scores/query_row.cuh"
#include "framework/attention/selection/candidates.cuh"
#include "framework/attention/selection/chosen_keys.cuh"
#include "framework/core/allocator.h"
#include "framework/ops/select_among/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int warps = 4;

template <class T>
__global__ void __launch_bounds__(warps* warp_size) select_kernel(SelectAmong<T> a, CandidateLists<T> lists) {
    __shared__ int bins[warps][radix_bins];
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int64_t list = static_cast<int64_t>(blockIdx.x) * warps + warp,
                  step = static_cast<int64_t>(gridDim.x) * warps, width = a.rows.width;
    const ChosenKeys chosen{a.candidates, a.rows.batch, a.keys_each};
    int32_t* places = lists.indices + list * lists.capacity;
    for (int64_t r = list; r < a.rows.batch * a.rows.queries; r += step) {
        const int count = chosen.count(r), kept = count < a.slots ? count : static_cast<int>(a.slots);
        if (count > a.slots) {
            const int64_t b = r / a.rows.queries;
            const QueryRow<T> query = a.rows.row(b, r % a.rows.queries, 0);
            const T* k = a.k + b * a.keys_each * width;
            Candidates<T> candidates(lists, list, bins[warp], {});
            for (int first = 0; first < count; first += warp_size) {
                const int i = first + lane;
                const bool there = i < count;
                candidates.offer(there ? score_key(query, k + chosen.key(r, i) * width) : T(0), i, there);
            }
            candidates.write(places);
            __syncwarp();
        }
        if (lane == 0) a.counts[r] = kept;
        for (int64_t i = lane; i < a.slots; i += warp_size)
            a.indices[r * a.slots + i] = i < kept ? chosen.key(r, count > a.slots ? places[i] : i) : 0;
        __syncwarp();
    }
}

}  // namespace

template <class T>
void select_among(const SelectAmong<T>& a) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const int64_t rows = a.rows.batch * a.rows.queries;
    const int64_t blocks = std::min((rows + warps - 1) / warps, multiprocessors() * 8);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * warps, a.slots);
    launch_kernel(select_kernel<T>,
                  {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(warps * warp_size)}, a,
                  memory.lists);
}

template void select_among(const SelectAmong<float>&);
template void select_among(const SelectAmong<double>&);

}  // namespace sieve::cuda
