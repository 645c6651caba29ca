// Chunks of query rows: the targets of all pairs (attention/target/target_rows.h), then one warp a row. It
// streams the row's targets through a list of candidates (attention/selection/candidates.cuh), which leaves
// the best keys in ascending order, looks each of them up among the chosen ones by bisection, and adds the
// chosen targets, the best ones, and the entropy's terms of all in float64. At the end one block adds up the
// rows.
//
// FLOPs and bytes are those of the targets. Memory O(T): a chunk's [rows, T] targets and the lists.
// Deterministic.
#include "framework/attention/selection/bisection.cuh"
#include "framework/attention/selection/candidates.cuh"
#include "framework/attention/target/target_rows.h"
#include "framework/core/allocator.h"
#include "framework/ops/indexer_quality/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int warps = 4;

struct RowQuality {
    double recall = 1, covered = 1, oracle = 1;
};

// Of one row that left a key out. `best` is room for `count` indices.
template <class T>
__device__ RowQuality judge_row(const T* p, int64_t keys, const int32_t* chosen, int count, double heads,
                                Candidates<T>& candidates, int32_t* best) {
    const int lane = threadIdx.x % warp_size;
    double mass = 0;
    for (int i = lane; i < count; i += warp_size) {
        const int64_t s = chosen[i];
        mass += s >= 0 && s < keys ? static_cast<double>(p[s]) : 0;
    }
    for (int64_t first = 0; first < keys; first += warp_size) {
        const int64_t s = first + lane;
        candidates.offer(s < keys ? p[s] : T(0), static_cast<int32_t>(s), s < keys);
    }
    candidates.write(best);
    int shared = 0;
    double most = 0;
    for (int i = lane; i < count; i += warp_size) {
        const int at = lower_bound(chosen, 0, count, best[i]);
        shared += at < count && chosen[at] == best[i];
        most += static_cast<double>(p[best[i]]);
    }
    return {static_cast<double>(warp_reduce(shared, Sum())) / count, warp_reduce(mass, Sum()) / heads,
            warp_reduce(most, Sum()) / heads};
}

// Of the distribution p / heads.
template <class T>
__device__ double entropy_of(const T* p, int64_t keys, T over_heads) {
    double sum = 0;
    for (int64_t s = threadIdx.x % warp_size; s < keys; s += warp_size) {
        const T share = p[s] * over_heads;
        if (share > T(0)) sum -= static_cast<double>(share * log(share));
    }
    return warp_reduce(sum, Sum());
}

template <class T>
__global__ void __launch_bounds__(warps* warp_size)
    quality_kernel(IndexerQualityRows<T> a, RowChunk chunk, const T* p, CandidateLists<T> lists) {
    __shared__ int bins[warps][radix_bins];
    const int warp = threadIdx.x / warp_size;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * warps + warp,
                  step = static_cast<int64_t>(gridDim.x) * warps;
    for (int64_t local = first; local < chunk.batches * chunk.rows; local += step) {
        const int64_t t = chunk.first + local % chunk.rows;
        const int64_t row = (chunk.batch + local / chunk.rows) * a.length + t;
        const int64_t count = a.keys.counts[row] < a.keys.slots ? a.keys.counts[row] : a.keys.slots;
        const T* row_p = p + local * a.length;
        const double entropy = entropy_of(row_p, t + 1, T(1) / static_cast<T>(a.target.heads));
        RowQuality quality;
        if (count > 0 && count <= t) {
            CandidateLists<T> own = lists;
            own.wanted = static_cast<int>(count);
            Candidates<T> candidates(own, first, bins[warp], {});
            quality = judge_row(row_p, t + 1, a.keys.indices + row * a.keys.slots, own.wanted,
                                static_cast<double>(a.target.heads), candidates,
                                lists.indices + first * lists.capacity);
        }
        if (threadIdx.x % warp_size == 0) {
            a.recall[row] = quality.recall;
            a.covered[row] = quality.covered;
            a.oracle[row] = quality.oracle;
            a.entropy[row] = entropy;
        }
    }
}

template <class T>
__global__ void __launch_bounds__(1024) totals_kernel(IndexerQualityRows<T> a) {
    __shared__ double scratch[warp_size];
    double sum[quality_totals] = {};
    for (int64_t row = threadIdx.x; row < a.batch * a.length; row += blockDim.x) add_row(a, row, sum);
    for (int i = 0; i < quality_totals; ++i) {
        const double total = block_reduce(sum[i], 0.0, cuda::Sum(), scratch);
        if (threadIdx.x == 0) a.totals[i] = total;
    }
}

}  // namespace

template <class T>
void indexer_quality(const IndexerQualityRows<T>& a) {
    const MemoryScope scope({"quality of the indexer", {SizeKind::batch, SizeKind::length}});
    const int64_t most_blocks = multiprocessors() * 8;
    for_row_chunks(a.batch, a.length, [&](const RowChunk& chunk) {
        const int64_t blocks = std::min((chunk.batches * chunk.rows + warps - 1) / warps, most_blocks);
        const Tensor p = Tensor::empty(Shape{chunk.batches, chunk.rows, a.length}, dtype_of<T>, device);
        const CandidateMemory<T> memory = candidate_memory<T>(blocks * warps, a.keys.slots);
        target_rows(TargetRows<T>{.attention = a.target,
                                  .length = a.length,
                                  .chunk = chunk,
                                  .keys = {{}, a.batch, a.length},
                                  .p = p.template data<T>()});
        launch_kernel(quality_kernel<T>,
                      {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(warps * warp_size)}, a,
                      chunk, p.template data<T>(), memory.lists);
    });
    launch_kernel(totals_kernel<T>, {.blocks = dim3(1), .threads = dim3(1024)}, a);
}

template void indexer_quality(const IndexerQualityRows<float>&);
template void indexer_quality(const IndexerQualityRows<double>&);

}  // namespace sieve::cuda
