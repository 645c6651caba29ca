// Selection without T x T. A block owns 32 queries and walks the 64-key tiles of their past: the tile's
// scores (score_tile.cuh) go to shared memory, from which each of the 4 warps offers 8 rows to their lists of
// candidates (attention/selection/candidates.cuh). Tiles of queries are dealt to as many blocks as the device
// holds at once, the longest rows first, so that the lists take O(blocks k) memory, not O(T k).
//
// FLOPs: T^2 HI dI (2 HI dI a causal pair). Bytes: keys and queries of each tile from the L2 cache, 6 B for
// 32 multiply-adds; lists as in top_k/top_k_cuda.cu; the output. At T = 8192, HI = 32, dI = 128: 275 GFLOP;
// exactly in float32 about 8 ms on an H100 (55 % of 67 TFLOP/s). Deterministic; equal keys tie exactly
// (head_tile.cuh).
//
// indexer_scores: score_rows.h, chunk by chunk.
#include "framework/attention/scores/fragment_scores.cuh"
#include "framework/attention/scores/score_tile.cuh"
#include "framework/attention/selection/candidates.cuh"
#include "framework/core/allocator.h"
#include "framework/ops/lightning_indexer/kernels.h"
#include "framework/quantization/quantization_kernels.h"

namespace sieve::cuda {
namespace {

constexpr MemoryUse score_memory{"scores of the indexer", {SizeKind::batch, SizeKind::length}};

template <class T>
IndexerRows<T> rows_of(const T* q, const T* k, const T* w, const IndexerSizes& sizes, double scale) {
    return {.q = q, .k = k, .w = w, .sizes = sizes, .scale = static_cast<T>(scale)};
}

// A part of a [B,T,T] tensor.
template <class T>
T* chunk_of(T* scores, const RowChunk& chunk, int64_t length) {
    return scores + (chunk.batch * length + chunk.first) * length;
}

template <class T>
__device__ inline T key_factor(const T* key_scales, int64_t length, int64_t b, int s) {
    return key_scales && s < length ? key_scales[b * length + s] : T(1);
}

// Scores of a tile of 32 queries, exactly.
template <class T>
struct ExactScorer {
    using Score = T;
    static constexpr int most_threads = HeadTile<T>::threads, blocks_at_once = 4;
    static constexpr int queries = HeadTile<T>::queries;
    static constexpr int keys = HeadTile<T>::keys;  // a step, which all warps compute together

    IndexerRows<T> rows;
    const T* key_scales;  // [B,T], factors on the scores of each key; or null

    size_t shared_bytes() const { return sizeof(typename HeadTile<T>::Shared); }
    __device__ int step_keys() const { return keys; }
    __device__ void start(int, int, void*) const {}
    // scores [queries, pitch] of keys s0...
    __device__ void score(int b, int t0, int s0, void* shared, T* scores, int pitch) const {
        T sum[4][4] = {};
        score_tile(rows, b, t0, s0, *static_cast<typename HeadTile<T>::Shared*>(shared), sum,
                   [](int, const uint32_t(&)[4][4]) {});
        for (int j = 0; j < 4; ++j) {
            const T factor = key_factor(key_scales, rows.sizes.length, b, s0 + HeadTile<T>::key(j));
            for (int i = 0; i < 4; ++i)
                scores[HeadTile<T>::query(i) * pitch + HeadTile<T>::key(j)] = sum[i][j] * factor;
        }
    }
};

// Scores of a tile of up to 16 queries on tensor cores. Each warp has keys of its own.
template <class Words, int chunks, int tiles>
struct FragmentScorer {
    using Score = float;
    using Keys = FragmentKeys<Words, chunks, tiles>;
    using Queries = FragmentQueries<Words, chunks>;
    static constexpr int most_threads = 384, blocks_at_once = 1;  // on a multiprocessor

    IndexerRows<float> rows;
    const uint4* packed;      // keys [B,T]
    const float* key_scales;  // as above
    int queries;

    size_t shared_bytes() const { return Queries::bytes(queries, rows.sizes.heads); }
    __device__ int step_keys() const { return static_cast<int>(blockDim.x) / warp_size * Keys::keys; }
    __device__ void start(int b, int t0, void* shared) const {
        Queries(shared, queries, rows.sizes.heads).load(rows, b, t0, queries, rows.sizes.length);
    }
    __device__ void score(int b, int t0, int s0, void* shared, float* scores, int pitch) const {
        const int length = static_cast<int>(rows.sizes.length);
        const int first = static_cast<int>(threadIdx.x) / warp_size * Keys::keys;
        if (s0 + first >= t0 + queries || s0 + first >= length) return;
        const Keys keys(packed + static_cast<int64_t>(b) * length * chunks * 4, [&](int i) {
            const int s = s0 + first + i;
            return s < length ? s : length - 1;
        });
        const Queries all(shared, queries, rows.sizes.heads);
        const float factor = key_factor(key_scales, length, b, s0 + first + Keys::own());
        for (int i = 0; i < queries; ++i) {
            const float score = keys.score(all, i, [](int, const uint32_t(&)[2 * tiles]) {});
            if (Keys::owns()) scores[i * pitch + first + Keys::own()] = score * factor;
        }
    }
};

// Shared memory of a block: the scorer's; scores [2, queries, pitch]; states [queries]; bins [warps, 256].
struct SelectLayout {
    int pitch;
    size_t scores, states, bins, all;

    template <class Scorer>
    SelectLayout(const Scorer& scorer, int step_keys, int threads)
        : pitch(step_keys +
                8) {  // puts the 4 rows that a warp of ExactScorer writes together into other banks
        using T = typename Scorer::Score;
        const size_t queries = static_cast<size_t>(scorer.queries);
        scores = (scorer.shared_bytes() + 15) / 16 * 16;
        states = scores + 2 * queries * static_cast<size_t>(pitch) * sizeof(T);
        bins = states + queries * sizeof(CandidateState<T>);
        all = bins + static_cast<size_t>(threads / warp_size) * radix_bins * sizeof(int);
    }
};

// The i-th tile of this block when tiles are dealt in turns, to and fro.
__device__ inline int64_t dealt_tile(int i) {
    const unsigned block = i % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    return static_cast<int64_t>(i) * gridDim.x + block;
}

template <class Scorer>
struct Selecting {
    using T = typename Scorer::Score;
    const IndexerSelect<T>& a;
    const Scorer& scorer;
    const CandidateLists<T>& lists;
    const SelectLayout& layout;
    unsigned char* shared;

    __device__ T* scores(int step) const {
        return reinterpret_cast<T*>(shared + layout.scores) + step % 2 * scorer.queries * layout.pitch;
    }
    __device__ CandidateState<T>* states() const {
        return reinterpret_cast<CandidateState<T>*>(shared + layout.states);
    }
    __device__ int* bins() const {
        return reinterpret_cast<int*>(shared + layout.bins) + threadIdx.x / warp_size * radix_bins;
    }

    // Calls f(row of the tile, t) for the rows of this warp.
    template <class F>
    __device__ void for_rows(int t0, const F& f) const {
        const int warps = static_cast<int>(blockDim.x) / warp_size;
        for (int row = static_cast<int>(threadIdx.x) / warp_size; row < scorer.queries; row += warps)
            if (t0 + row < a.sizes.length) f(row, t0 + row);
    }

    // Rows that take all their keys.
    __device__ void take_all(int b, int t0) const {
        for_rows(t0, [&](int, int t) {
            const int64_t row = b * a.sizes.length + t;
            if (threadIdx.x % warp_size == 0)
                a.counts[row] = static_cast<int32_t>(t < a.slots ? t + 1 : a.slots);
            if (t < a.slots) select_all_keys(a.indices + row * a.slots, t + 1, a.slots);
        });
    }

    // The others: calls f(candidates, row, t).
    template <class F>
    __device__ void for_candidates(int t0, const F& f) const {
        for_rows(t0, [&](int row, int t) {
            if (t < a.slots) return;
            __syncwarp();
            Candidates<T> candidates(lists, static_cast<int64_t>(blockIdx.x) * scorer.queries + row, bins(),
                                     states()[row]);
            f(candidates, row, t);
            if (threadIdx.x % warp_size == 0) states()[row] = candidates.state();
        });
    }

    __device__ void choose(int b, int t0) const {
        const int length = static_cast<int>(a.sizes.length), past = t0 + scorer.queries;
        const int end = past < length ? past : length;
        const int keys = scorer.step_keys(), lane = threadIdx.x % warp_size;
        if (static_cast<int>(threadIdx.x) < scorer.queries) states()[threadIdx.x] = {};
        scorer.start(b, t0, shared);
        __syncthreads();
        for (int step = 0; step * keys < end; ++step) {
            const int s0 = step * keys;
            scorer.score(b, t0, s0, shared, scores(step), layout.pitch);
            __syncthreads();
            for_candidates(t0, [&](Candidates<T>& candidates, int row, int t) {
                const T* score = scores(step) + row * layout.pitch;
                for (int at = lane; at - lane < keys && s0 + at - lane <= t; at += warp_size)
                    candidates.offer(score[at], s0 + at, s0 + at <= t);
            });
        }
        for_candidates(t0, [&](Candidates<T>& candidates, int, int t) {
            candidates.write(a.indices + (b * a.sizes.length + t) * a.slots);
        });
        __syncthreads();
    }
};

template <class Scorer>
__global__ void __launch_bounds__(Scorer::most_threads, Scorer::blocks_at_once)
    select_kernel(IndexerSelect<typename Scorer::Score> a, Scorer scorer,
                  CandidateLists<typename Scorer::Score> lists, SelectLayout layout, int64_t tiles) {
    const Selecting<Scorer> selecting{a, scorer, lists, layout, dynamic_shared<unsigned char>()};
    const int64_t length = a.sizes.length, batch = a.sizes.batch, queries = scorer.queries;
    for (int i = 0; static_cast<int64_t>(i) * gridDim.x < tiles; ++i) {
        const int64_t tile = dealt_tile(i);
        if (tile >= tiles) continue;
        const int b = static_cast<int>(tile % batch);
        const int t0 = static_cast<int>(((length + queries - 1) / queries - 1 - tile / batch) * queries);
        selecting.take_all(b, t0);
        if (t0 + queries > a.slots && length > a.slots) selecting.choose(b, t0);
    }
}

template <class Scorer>
void launch_select(const IndexerSelect<typename Scorer::Score>& a, const Scorer& scorer, int step_keys,
                   int threads) {
    using T = typename Scorer::Score;
    const int64_t tiles = a.sizes.batch * ((a.sizes.length + scorer.queries - 1) / scorer.queries);
    const int64_t blocks = std::min(tiles, multiprocessors() * Scorer::blocks_at_once);
    const CandidateMemory<T> memory = candidate_memory<T>(blocks * scorer.queries, a.slots);
    const SelectLayout layout(scorer, step_keys, threads);
    launch_kernel(select_kernel<Scorer>,
                  {.blocks = dim3(static_cast<unsigned>(blocks)),
                   .threads = dim3(static_cast<unsigned>(threads)),
                   .shared_bytes = layout.all},
                  a, scorer, memory.lists, layout, tiles);
}

// False where there is no room for a single query.
template <class Shape>
bool select_by_fragments(const IndexerSelect<float>& a, const IndexerRows<float>& rows,
                         const float* key_scales) {
    using Scorer = FragmentScorer<typename Shape::Words, Shape::chunks, Shape::tiles>;
    const int64_t warps = std::clamp<int64_t>((a.sizes.length + Scorer::Keys::keys - 1) / Scorer::Keys::keys,
                                              1, Scorer::most_threads / warp_size);
    const int threads = static_cast<int>(warps) * warp_size,
              step_keys = static_cast<int>(warps) * Scorer::Keys::keys;
    Scorer scorer{.rows = rows, .packed = nullptr, .key_scales = key_scales, .queries = 16};
    while (scorer.queries > 0 && SelectLayout(scorer, step_keys, threads).all > most_shared_bytes())
        --scorer.queries;
    if (scorer.queries == 0) return false;
    const Tensor packed =
        packed_rows<typename Shape::Words, Shape::chunks>(a.k, a.sizes.batch * a.sizes.length, a.sizes.width);
    scorer.packed = static_cast<const uint4*>(packed.raw());
    launch_select(a, scorer, step_keys, threads);
    return true;
}

// key_scales [B,T]: factors on the scores of each key; or null.
template <class T>
void select(const IndexerSelect<T>& a, const T* key_scales) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const IndexerRows<T> rows = rows_of(a.q, a.k, a.w, a.sizes, a.scale);
    bool done = false;
    if constexpr (std::is_same_v<T, float>)
        with_fragments(a.sizes.width,
                       [&]<class Shape>(Shape) { done = select_by_fragments<Shape>(a, rows, key_scales); });
    if (!done)
        launch_select(a, ExactScorer<T>{.rows = rows, .key_scales = key_scales}, HeadTile<T>::keys,
                      HeadTile<T>::threads);
}

Tensor int8_codes(const uint8_t* codes, int64_t rows, int64_t width) {
    const Tensor values = Tensor::empty({rows, width}, DType::float32, device);
    decode_rows({.codes = codes,
                 .scales = nullptr,
                 .values = values.data<float>(),
                 .rows = rows,
                 .width = width,
                 .format = RowFormat::int8});
    return values;
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
    select(a, static_cast<const T*>(nullptr));
}

// On the kernels of float32: it holds the codes and, for up to 1024 dims, sums of their products exactly; so
// do bfloat16 and tf32 the codes.
void indexer_select_int8(const IndexerSelectInt8& a) {
    const MemoryScope scope({"the selection of keys", {SizeKind::selected_keys}});
    const IndexerSizes& n = a.sizes;
    const Tensor q = int8_codes(a.q, n.batch * n.length * n.heads, n.width),
                 k = int8_codes(a.k, n.batch * n.length, n.width);
    select(IndexerSelect<float>{.q = q.data<float>(),
                                .k = k.data<float>(),
                                .w = a.w,
                                .indices = a.indices,
                                .counts = a.counts,
                                .bad_row = a.bad_row,
                                .sizes = n,
                                .scale = a.scale,
                                .slots = a.slots},
           a.key_scales);
}

template void indexer_scores_forward(const IndexerScoresForward<float>&);
template void indexer_scores_forward(const IndexerScoresForward<double>&);
template void indexer_scores_backward(const IndexerScoresBackward<float>&);
template void indexer_scores_backward(const IndexerScoresBackward<double>&);
template void indexer_select(const IndexerSelect<float>&);
template void indexer_select(const IndexerSelect<double>&);

}  // namespace sieve::cuda
