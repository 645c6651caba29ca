// Selection without T x T. A block owns 32 queries and walks the 64-key tiles of their past: the tile's
// scores (score_tile.cuh) go to shared memory, from which each of the 4 warps offers 8 rows to their lists of
// candidates (top_k/candidates.cuh). Tiles of queries are dealt to as many blocks as the device holds at
// once, the longest rows first, so that the lists take O(blocks k) memory, not O(T k).
//
// FLOPs: T^2 HI dI (2 HI dI a causal pair). Bytes: keys and queries of each tile from the L2 cache, 6 B for
// 32 multiply-adds; lists as in top_k/top_k_cuda.cu; the output. At T = 8192, HI = 32, dI = 128: 275 GFLOP;
// exactly in float32 about 8 ms on an H100 (55 % of 67 TFLOP/s). Deterministic; equal keys tie exactly
// (head_tile.cuh).
//
// indexer_scores: score_rows.h, chunk by chunk.
#include "framework/core/allocator.h"
#include "framework/ops/lightning_indexer/score_tile.cuh"
#include "framework/ops/top_k/candidates.cuh"

namespace sieve::cuda {
namespace {

constexpr MemoryUse score_memory{"scores of the indexer", "--batch_size or --max_seq_len"};

template <class T>
IndexerRows<T> rows_of(const T* q, const T* k, const T* w, const IndexerSizes& sizes, double scale) {
    return {.q = q, .k = k, .w = w, .sizes = sizes, .scale = static_cast<T>(scale)};
}

// A part of a [B,T,T] tensor.
template <class T>
T* chunk_of(T* scores, const RowChunk& chunk, int64_t length) {
    return scores + (chunk.batch * length + chunk.first) * length;
}

// What one block selects with.
template <class T>
struct SelectShared {
    static constexpr int pitch =
        HeadTile<T>::keys + 8;  // the 4 rows that a warp writes together: different banks

    typename HeadTile<T>::Shared operands;
    T scores[HeadTile<T>::queries][pitch];
    CandidateState<T> states[HeadTile<T>::queries];
    int bins[HeadTile<T>::threads / warp_size][radix_bins];
};

// The i-th tile of this block when tiles are dealt in turns, to and fro.
__device__ inline int64_t dealt_tile(int64_t i) {
    const int64_t block = i % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    return i * gridDim.x + block;
}

// Calls f(row of the tile, t) for the rows of this warp.
template <class F>
__device__ void for_warp_rows(int64_t t0, int queries, int warps, int64_t length, const F& f) {
    for (int row = threadIdx.x / warp_size; row < queries && t0 + row < length; row += warps)
        f(row, t0 + row);
}

template <class T>
__device__ void offer_tile(const SelectShared<T>& shared, Candidates<T>& candidates, int row, int64_t t,
                           int64_t s0) {
    for (int first = 0; first < HeadTile<T>::keys; first += warp_size) {
        const int at = first + threadIdx.x % warp_size;
        candidates.offer(shared.scores[row][at], static_cast<int32_t>(s0 + at), s0 + at <= t);
    }
}

template <class T>
__device__ void select_tile(const IndexerSelect<T>& a, const IndexerRows<T>& rows,
                            const CandidateLists<T>& lists, int64_t b, int64_t t0, SelectShared<T>& shared) {
    using Tile = HeadTile<T>;
    constexpr int warps = Tile::threads / warp_size;
    const int64_t length = a.sizes.length;
    const int64_t end = t0 + Tile::queries < length ? t0 + Tile::queries : length;
    int* bins = shared.bins[threadIdx.x / warp_size];
    const auto for_rows = [&](const auto& f) {
        for_warp_rows(t0, Tile::queries, warps, length, [&](int row, int64_t t) {
            if (t >= a.slots) f(row, t, blockIdx.x * static_cast<int64_t>(Tile::queries) + row);
        });
    };
    if (threadIdx.x < Tile::queries) shared.states[threadIdx.x] = {};
    for (int64_t s0 = 0; s0 < end; s0 += Tile::keys) {
        T sum[4][4] = {};
        score_tile(rows, b, t0, s0, shared.operands, sum, [](int, const uint32_t(&)[4][4]) {});
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) shared.scores[Tile::query(i)][Tile::key(j)] = sum[i][j];
        __syncthreads();
        for_rows([&](int row, int64_t t, int64_t list) {
            Candidates<T> candidates(lists, list, bins, shared.states[row]);
            offer_tile(shared, candidates, row, t, s0);
            if (threadIdx.x % warp_size == 0) shared.states[row] = candidates.state();
        });
    }
    for_rows([&](int row, int64_t t, int64_t list) {
        __syncwarp();
        Candidates<T>(lists, list, bins, shared.states[row]).write(a.indices + (b * length + t) * a.slots);
    });
}

template <class T>
__global__ void __launch_bounds__(HeadTile<T>::threads)
    select_kernel(IndexerSelect<T> a, IndexerRows<T> rows, CandidateLists<T> lists, int64_t tiles) {
    using Tile = HeadTile<T>;
    constexpr int warps = Tile::threads / warp_size;
    SelectShared<T>& shared = *dynamic_shared<SelectShared<T>>();
    const int64_t length = a.sizes.length, per_row = (length + Tile::queries - 1) / Tile::queries;
    for (int64_t i = 0; i * gridDim.x < tiles; ++i) {
        const int64_t tile = dealt_tile(i);
        if (tile >= tiles) continue;
        const int64_t b = tile % a.sizes.batch, t0 = (per_row - 1 - tile / a.sizes.batch) * Tile::queries;
        for_warp_rows(t0, Tile::queries, warps, length, [&](int, int64_t t) {
            const int64_t row = b * length + t;
            if (threadIdx.x % warp_size == 0)
                a.counts[row] = static_cast<int32_t>(t < a.slots ? t + 1 : a.slots);
            if (t < a.slots) select_all_keys(a.indices + row * a.slots, t + 1, a.slots);
        });
        if (t0 + Tile::queries <= a.slots || length <= a.slots) continue;
        select_tile(a, rows, lists, b, t0, shared);
        __syncthreads();
    }
}

}  // namespace

template <class T>
void indexer_scores_forward(const IndexerScoresForward<T>& a) {
    const int64_t length = a.sizes.length;
    for_row_chunks(a.sizes.batch, length, [&](const RowChunk& chunk) {
        score_rows(ScoreRows<T>{.indexer = rows_of(a.q, a.k, a.w, a.sizes, a.scale),
                                .chunk = chunk,
                                .scores = chunk_of(a.scores, chunk, length),
                                .masks = nullptr,
                                .future = true});
    });
}

template <class T>
void indexer_scores_backward(const IndexerScoresBackward<T>& a) {
    const MemoryScope scope(score_memory);
    const IndexerRows<T> indexer = rows_of(a.q, a.k, a.w, a.sizes, a.scale);
    const int64_t length = a.sizes.length;
    fill_zero(a.dk, a.sizes.batch * length * a.sizes.width * static_cast<int64_t>(sizeof(T)));
    for_row_chunks(a.sizes.batch, length, [&](const RowChunk& chunk) {
        const Tensor masks = Tensor::empty(
            Shape{chunk.batches, mask_words(a.sizes.heads), chunk.rows, length}, DType::int32, device);
        uint32_t* bits = static_cast<uint32_t*>(masks.raw());
        score_rows(ScoreRows<T>{
            .indexer = indexer, .chunk = chunk, .scores = nullptr, .masks = bits, .future = false});
        gradient_rows(GradientRows<T>{.indexer = indexer,
                                      .chunk = chunk,
                                      .g = chunk_of(a.dscores, chunk, length),
                                      .g_batch = length * length,
                                      .masks = bits,
                                      .dq = a.dq,
                                      .dw = a.dw,
                                      .dk = a.dk});
    });
}

template <class T>
void indexer_select(const IndexerSelect<T>& a) {
    using Tile = HeadTile<T>;
    const MemoryScope scope({"the selection of keys", "--sparse_top_k"});
    const int64_t tiles = a.sizes.batch * ((a.sizes.length + Tile::queries - 1) / Tile::queries);
    const int64_t blocks = std::min(tiles, multiprocessors() * 4);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * Tile::queries, a.slots);
    launch_kernel(select_kernel<T>,
                  {.blocks = dim3(static_cast<unsigned>(blocks)),
                   .threads = dim3(Tile::threads),
                   .shared_bytes = sizeof(SelectShared<T>)},
                  a, rows_of(a.q, a.k, a.w, a.sizes, a.scale), memory.lists, tiles);
}

template void indexer_scores_forward(const IndexerScoresForward<float>&);
template void indexer_scores_forward(const IndexerScoresForward<double>&);
template void indexer_scores_backward(const IndexerScoresBackward<float>&);
template void indexer_scores_backward(const IndexerScoresBackward<double>&);
template void indexer_select(const IndexerSelect<float>&);
template void indexer_select(const IndexerSelect<double>&);

}  // namespace sieve::cuda
