// The sparse KL loss by gathering each query's chosen keys: O(T k) work and memory. Scores, targets and signs
// are kept for the chosen pairs alone, as [B T, slots].
//
// Products (gather_kernel): a block takes up to 128 chosen keys of one query, a key a thread. Rows of keys
// and of up to 16 heads of the query pass through shared memory 128 bytes at a time in two stages, as in
// lightning_indexer/head_tile.cuh; a thread multiplies its key with all those heads, whose rows the whole
// warp reads together. The indexer's heads share their keys; of the main attention the heads of one key head
// do.
//
// Gradients of queries (gather_query_gradients): a block a query; 128 threads = columns (16 bytes each) x
// groups of heads. Each thread adds up to 8 heads in registers while it walks over the chosen keys.
//
// Gradients of keys: the chosen pairs' contributions sum_j [x > 0] g scale w[j] q[j,:], as tiles of
// blas/tile_product.cuh whose depth is the heads, go to memory for a few rows at a time (32 MiB); then each
// key adds up those of its queries in ascending order (top_k/inverse_selection.h).
//
// FLOPs a chosen pair: 2 H dh + 6 HI dI. Bytes a pair: (G dh + 2 dI) elements gathered, mostly from the L2
// cache; 2 dI for the contributions; 6 for scores, targets, signs. Deterministic: no atomics.
#pragma once

#include "framework/blas/tile_product.cuh"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"
#include "framework/ops/indexer_kl/attention_head_rows.cuh"
#include "framework/ops/lightning_indexer/fragment_scores.cuh"
#include "framework/ops/lightning_indexer/weighted_queries.cuh"
#include "framework/ops/top_k/bisection.cuh"
#include "framework/ops/top_k/inverse_selection.h"

namespace sieve::cuda {

// A selection whose values nobody has checked: indices are clamped to [0, T), counts to [0, slots].
struct ChosenKeys {
    const int32_t* indices;  // [B,T,slots]
    const int32_t* counts;   // [B,T]
    int64_t batch, length, slots;

    __host__ __device__ int64_t rows() const { return batch * length; }
    __device__ int count(int64_t row) const {
        const int64_t n = counts[row];
        return static_cast<int>(n < 0 ? 0 : n < slots ? n : slots);
    }
    __device__ int key(int64_t row, int64_t slot) const {
        const int64_t s = indices[row * slots + slot];
        return static_cast<int>(s < 0 ? 0 : s < length ? s : length - 1);
    }
};

// value = sum over the indexer's heads of scale w ReLU(product), and the products' signs.
template <class T>
struct GatheredScores {
    static constexpr bool has_signs = true;
    IndexerRows<T> indexer;
    uint32_t* masks;  // [words, B T, slots], as lightning_indexer/score_rows.h has them; or null

    __device__ ScoredRows<T> rows(int64_t b) const { return indexer_head_rows(indexer, b); }
    __device__ T term(int64_t row, int h, T product) const {
        return indexer.scale * indexer.w[row * indexer.sizes.heads + h] * relu(product);
    }
};

// value = sum over the main attention's heads of exp(scale product - lse).
template <class T>
struct GatheredTargets {
    static constexpr bool has_signs = false;
    AttentionTarget<T> attention;
    int64_t length;
    uint32_t* masks = nullptr;

    __device__ ScoredRows<T> rows(int64_t b) const { return attention_head_rows(attention, length, b); }
    __device__ T term(int64_t row, int h, T product) const {
        const T log_sum = attention.lse[(row / length * attention.heads + h) * length + row % length];
        return exp(static_cast<T>(attention.scale) * product - log_sum);
    }
};

// The products of one query's chosen keys with `most_heads` heads at a time.
template <class T, int most_heads>
struct GatherTile {
    static constexpr int packs = 8, step = packs * full_pack<T>;

    FullPack<T>* q;  // [2, most_heads, packs]
    FullPack<T>* k;  // [2, threads, packs + 1]
    int* key;        // [threads]
    const T* row;    // the query's first head
    ScoredRows<T> a;
    bool whole;  // packs can be read

    static size_t bytes(int threads) {
        return sizeof(FullPack<T>) * 2 * (most_heads * packs + threads * (packs + 1)) + sizeof(int) * threads;
    }

    __device__ GatherTile(const ScoredRows<T>& rows, int64_t t)
        : q(dynamic_shared<FullPack<T>>()),
          k(q + 2 * most_heads * packs),
          key(reinterpret_cast<int*>(k + 2 * blockDim.x * (packs + 1))),
          row(rows.q + t * rows.q_stride),
          a(rows),
          whole(whole_packs<T>(rows.width)) {}

    // Heads [head, head + heads_from(head)) share a key head and are multiplied together.
    __device__ int heads_from(int head) const {
        const int left = a.group - head % a.group;
        return left < most_heads ? left : most_heads;
    }

    __device__ void fetch(int stage, int head, int at) {
        const T* keys = a.k + head / a.group * a.k_head;
        for (int i = threadIdx.x; i < static_cast<int>(blockDim.x) * packs; i += blockDim.x) {
            const int slot = i / packs, pack = i % packs;
            fetch_pack(k[(stage * blockDim.x + slot) * (packs + 1) + pack], keys + key[slot] * a.k_stride,
                       a.k, at * step + pack * full_pack<T>, a.width, whole);
        }
        for (int i = threadIdx.x; i < heads_from(head) * packs; i += blockDim.x)
            fetch_pack(q[stage * most_heads * packs + i], row + (head + i / packs) * a.q_head, a.q,
                       at * step + i % packs * full_pack<T>, a.width, whole);
        cp_async_commit();
    }

    __device__ void multiply(int stage, int heads, T (&x)[most_heads]) const {
        const FullPack<T>* own = k + (stage * blockDim.x + threadIdx.x) * (packs + 1);
#pragma unroll 2
        for (int pack = 0; pack < packs; ++pack) {
            const FullPack<T> right = own[pack];
#pragma unroll
            for (int j = 0; j < most_heads; ++j) {
                if (j >= heads) break;
                const FullPack<T> left = q[(stage * most_heads + j) * packs + pack];
#pragma unroll
                for (int e = 0; e < full_pack<T>; ++e) x[j] += left.at[e] * right.at[e];
            }
        }
    }

    // Calls f(h, x) for all heads in ascending order with the product of this thread's key, and done(h) after
    // each group of them, where h is one past its last.
    template <class F, class Done>
    __device__ void for_each_head(const F& f, const Done& done) {
        const int steps = a.width > step ? (a.width + step - 1) / step : 1;
        T x[most_heads] = {};
        fetch(0, 0, 0);
        for (int i = 0, head = 0, at = 0; head < a.heads; ++i) {
            cp_async_wait<0>();
            __syncthreads();
            const int heads = heads_from(head);
            const bool last = at + 1 == steps;
            const int next_head = last ? head + heads : head, next_at = last ? 0 : at + 1;
            if (next_head < a.heads) fetch((i + 1) % 2, next_head, next_at);
            multiply(i % 2, heads, x);
            if (last) {
#pragma unroll
                for (int j = 0; j < most_heads; ++j) {
                    if (j < heads) f(head + j, x[j]);
                    x[j] = T(0);
                }
                done(next_head);
            }
            head = next_head;
            at = next_at;
        }
    }
};

// values [B T, slots]. Block i works on row i / tiles.
template <class T, int most_heads, class Terms>
__global__ void __launch_bounds__(128) gather_kernel(ChosenKeys keys, Terms terms, T* values) {
    const int64_t tiles = (keys.slots + blockDim.x - 1) / blockDim.x, row = blockIdx.x / tiles;
    const int first = static_cast<int>(blockIdx.x % tiles * blockDim.x), count = keys.count(row);
    if (first >= count) return;
    const int slot = first + static_cast<int>(threadIdx.x);
    GatherTile<T, most_heads> tile(terms.rows(row / keys.length), row % keys.length);
    tile.key[threadIdx.x] = keys.key(row, slot < count ? slot : count - 1);
    __syncthreads();
    T value = 0;
    uint32_t signs = 0;
    tile.for_each_head(
        [&](int h, T product) {
            value += terms.term(row, h, product);
            if constexpr (Terms::has_signs) signs |= static_cast<uint32_t>(product > T(0)) << (h % 32);
        },
        [&](int h) {
            if (!Terms::has_signs || (h % 32 != 0 && h < tile.a.heads)) return;
            if (terms.masks && slot < count)
                terms.masks[((h - 1) / 32 * keys.rows() + row) * keys.slots + slot] = signs;
            signs = 0;
        });
    if (slot < count) values[row * keys.slots + slot] = value;
}

template <class T, int most_heads, class Terms>
void launch_gather(const ChosenKeys& keys, const Terms& terms, T* values) {
    const int threads = keys.slots > 64 ? 128 : 64;
    const int64_t tiles = (keys.slots + threads - 1) / threads;
    launch_kernel(gather_kernel<T, most_heads, Terms>,
                  {.blocks = dim3(static_cast<unsigned>(keys.rows() * tiles)),
                   .threads = dim3(static_cast<unsigned>(threads)),
                   .shared_bytes = GatherTile<T, most_heads>::bytes(threads)},
                  keys, terms, values);
}

// `group`: how many heads share their keys.
template <class T, class Terms>
void gather(const ChosenKeys& keys, int64_t group, const Terms& terms, T* values) {
    if (group == 1) return launch_gather<T, 1>(keys, terms, values);
    if (group <= 4) return launch_gather<T, 4>(keys, terms, values);
    launch_gather<T, 16>(keys, terms, values);
}

// The same on tensor cores (lightning_indexer/fragment_scores.cuh). A block takes one query; each of its
// warps gathers 32 (or 16) chosen keys at a time.
constexpr int fragment_gather_threads = 128;

template <class Words, int chunks, int tiles>
__global__ void __launch_bounds__(fragment_gather_threads)
    fragment_score_kernel(ChosenKeys keys, GatheredScores<float> a, const uint4* packed, float* values) {
    using Keys = FragmentKeys<Words, chunks, tiles>;
    const int64_t row = blockIdx.x, b = row / keys.length, t = row % keys.length;
    const int count = keys.count(row);
    FragmentQueries<Words, chunks> query(dynamic_shared<unsigned char>(), 1, a.indexer.sizes.heads);
    query.load(a.indexer, b, t, 1, keys.length);
    __syncthreads();
    for (int first = static_cast<int>(threadIdx.x) / warp_size * Keys::keys; first < count;
         first += fragment_gather_threads / warp_size * Keys::keys) {
        const Keys own(packed + b * keys.length * chunks * 4,
                       [&](int i) { return keys.key(row, first + i < count ? first + i : count - 1); });
        const int slot = first + Keys::own();
        const bool there = Keys::owns() && slot < count;
        const float score = own.score(query, 0, [&](int word, const uint32_t(&bits)[2 * tiles]) {
            if (!a.masks) return;
            const uint32_t mask = Keys::over_heads(bits, Or());
            if (there) a.masks[(word * keys.rows() + row) * keys.slots + slot] = mask;
        });
        if (there) values[row * keys.slots + slot] = score;
    }
}

// The heads that share a key head are the right operand, up to 8 at a time.
template <class Words, int chunks, int tiles>
__global__ void __launch_bounds__(fragment_gather_threads)
    fragment_target_kernel(ChosenKeys keys, AttentionTarget<float> a, const uint4* packed, float* values) {
    using Keys = FragmentKeys<Words, chunks, tiles>;
    constexpr int pieces = chunks * 4;
    constexpr float log2_e = 1.44269504f;
    uint4* q = dynamic_shared<uint4>();  // [H, pieces]
    float* lse = reinterpret_cast<float*>(q + a.heads * pieces);
    const int64_t row = blockIdx.x, b = row / keys.length, t = row % keys.length;
    const int count = keys.count(row), width = static_cast<int>(a.width), heads = static_cast<int>(a.heads);
    const int group = static_cast<int>(a.heads / a.key_heads), lane = threadIdx.x % warp_size;
    for (int i = threadIdx.x; i < heads * pieces; i += fragment_gather_threads)
        q[i] = packed_piece<Words>(a.q + ((b * heads + i / pieces) * keys.length + t) * width,
                                   i % pieces * 4 * Words::elements, width, whole_packs<float>(width));
    for (int i = threadIdx.x; i < heads; i += fragment_gather_threads)
        lse[i] = log2_e * a.lse[(b * heads + i) * keys.length + t];
    __syncthreads();
    const float scale = log2_e * static_cast<float>(a.scale);
    for (int first = static_cast<int>(threadIdx.x) / warp_size * Keys::keys; first < count;
         first += fragment_gather_threads / warp_size * Keys::keys) {
        float sum[2 * tiles] = {};
        for (int key_head = 0; key_head < a.key_heads; ++key_head) {
            const Keys own(packed + (b * a.key_heads + key_head) * keys.length * pieces,
                           [&](int i) { return keys.key(row, first + i < count ? first + i : count - 1); });
            for (int h = key_head * group; h < (key_head + 1) * group; h += 8) {
                const int left = (key_head + 1) * group - h;
                const uint4* mine = lane / 4 < left ? q + (h + lane / 4) * pieces + lane % 4 : nullptr;
                float x[tiles][4] = {};
                own.multiply([&](int c) { return mine ? mine[c * 4] : uint4{}; }, x);
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int j = lane % 4 * 2 + e;
                    if (j >= left) continue;
#pragma unroll
                    for (int v = 0; v < 2 * tiles; ++v)
                        sum[v] += exp2f(scale * x[v / 2][v % 2 * 2 + e] - lse[h + j]);
                }
            }
        }
        const float value = Keys::over_heads(sum, Sum());
        const int slot = first + Keys::own();
        if (Keys::owns() && slot < count) values[row * keys.slots + slot] = value;
    }
}

inline void gather_scores(const ChosenKeys& keys, const GatheredScores<double>& a, double* values) {
    gather(keys, a.indexer.sizes.heads, a, values);
}
inline void gather_scores(const ChosenKeys& keys, const GatheredScores<float>& a, float* values) {
    const IndexerSizes& n = a.indexer.sizes;
    bool done = false;
    with_fragments(n.width, [&]<class Shape>(Shape) {
        const size_t bytes = FragmentQueries<typename Shape::Words, Shape::chunks>::bytes(1, n.heads);
        if (bytes > most_shared_bytes()) return;
        const Tensor packed =
            packed_rows<typename Shape::Words, Shape::chunks>(a.indexer.k, n.batch * n.length, n.width);
        launch_kernel(fragment_score_kernel<typename Shape::Words, Shape::chunks, Shape::tiles>,
                      {.blocks = dim3(static_cast<unsigned>(keys.rows())),
                       .threads = dim3(fragment_gather_threads),
                       .shared_bytes = bytes},
                      keys, a, static_cast<const uint4*>(packed.raw()), values);
        done = true;
    });
    if (!done) gather(keys, n.heads, a, values);
}

inline void gather_targets(const ChosenKeys& keys, const AttentionTarget<double>& a, double* values) {
    gather(keys, a.heads / a.key_heads, GatheredTargets<double>{a, keys.length}, values);
}
inline void gather_targets(const ChosenKeys& keys, const AttentionTarget<float>& a, float* values) {
    bool done = false;
    with_fragments(a.width, [&]<class Shape>(Shape) {
        const size_t bytes = static_cast<size_t>(a.heads) * (Shape::chunks * 64 + sizeof(float));
        if (bytes > most_shared_bytes()) return;
        const Tensor packed = packed_rows<typename Shape::Words, Shape::chunks>(
            a.k, keys.batch * a.key_heads * keys.length, a.width);
        launch_kernel(fragment_target_kernel<typename Shape::Words, Shape::chunks, Shape::tiles>,
                      {.blocks = dim3(static_cast<unsigned>(keys.rows())),
                       .threads = dim3(fragment_gather_threads),
                       .shared_bytes = bytes},
                      keys, a, static_cast<const uint4*>(packed.raw()), values);
        done = true;
    });
    if (!done) gather(keys, a.heads / a.key_heads, GatheredTargets<float>{a, keys.length}, values);
}

template <class T>
struct GatheredGradients {
    IndexerRows<T> indexer;
    ChosenKeys keys;
    const T* g;             // [B T, slots]
    const uint32_t* masks;  // [words, B T, slots]
    T* dq;                  // [B,T,HI,dI]
    T* dw;                  // [B,T,HI]
    T* dk;                  // [B,T,dI]: added to
};

template <class T>
__device__ FullPack<T> load_pack(const T* row, int d, int width, bool whole) {
    if (whole) return *reinterpret_cast<const FullPack<T>*>(row + d);
    FullPack<T> values;
    for (int e = 0; e < full_pack<T>; ++e) values.at[e] = d + e < width ? row[d + e] : T(0);
    return values;
}

// Columns of a pass of gather_query_gradients, in packs: a power of two, so that they are lanes of one warp.
inline int gather_columns(int64_t width, int pack) {
    int columns = 1;
    while (columns < warp_size && columns * pack < width) columns *= 2;
    return columns;
}

// d[j,:] = sum_i [x[j,i] > 0] g[i] k[i,:] of one query, 32 heads at a time; dq = scale w d, dw = scale q . d.
template <class T>
__global__ void __launch_bounds__(128) gather_query_gradients(GatheredGradients<T> a, int columns) {
    constexpr int most_heads = 8, threads = 128;
    __shared__ T g[threads], dots[32];
    __shared__ uint32_t mask[threads];
    __shared__ int key[threads];
    const IndexerSizes& n = a.indexer.sizes;
    const int64_t row = blockIdx.x;
    const int count = a.keys.count(row), width = static_cast<int>(n.width),
              tid = static_cast<int>(threadIdx.x);
    const int groups = threads / columns, group = tid / columns, column = tid % columns * full_pack<T>;
    const bool whole = whole_packs<T>(width);
    const T* keys = a.indexer.k + row / n.length * n.length * width;
    for (int first_head = 0; first_head < n.heads; first_head += 32) {
        const int heads =
            static_cast<int>(n.heads) - first_head < 32 ? static_cast<int>(n.heads) - first_head : 32;
        const int own_heads = (heads + groups - 1) / groups;  // head j * groups + group, j < own_heads
        if (tid < 32) dots[tid] = 0;
        for (int d = column; d - column < width; d += columns * full_pack<T>) {
            FullPack<T> sum[most_heads] = {};
            for (int first = 0; first < count; first += threads) {
                const int here = count - first < threads ? count - first : threads;
                __syncthreads();
                if (tid < here) {
                    g[tid] = a.g[row * a.keys.slots + first + tid];
                    mask[tid] = a.masks[(first_head / 32 * a.keys.rows() + row) * a.keys.slots + first + tid];
                    key[tid] = a.keys.key(row, first + tid);
                }
                __syncthreads();
                if (d >= width) continue;
#pragma unroll 4
                for (int i = 0; i < here; ++i) {
                    const FullPack<T> k =
                        load_pack(keys + static_cast<int64_t>(key[i]) * width, d, width, whole);
#pragma unroll
                    for (int j = 0; j < most_heads; ++j) {
                        if (j >= own_heads) break;
                        const T weight = mask[i] >> ((j * groups + group) % 32) & 1 ? g[i] : T(0);
#pragma unroll
                        for (int e = 0; e < full_pack<T>; ++e) sum[j].at[e] += weight * k.at[e];
                    }
                }
            }
            __syncthreads();
#pragma unroll
            for (int j = 0; j < most_heads; ++j) {
                const int own = j * groups + group;
                const int64_t at = row * n.heads + first_head + own;
                const bool there = own < heads;
                T dot = 0;
                for (int e = 0; there && e < full_pack<T> && d + e < width; ++e) {
                    dot += a.indexer.q[at * width + d + e] * sum[j].at[e];
                    a.dq[at * width + d + e] = a.indexer.scale * a.indexer.w[at] * sum[j].at[e];
                }
                for (int offset = columns / 2; offset > 0; offset /= 2)
                    dot += __shfl_xor_sync(whole_warp, dot, offset);
                if (there && tid % columns == 0) dots[own] += dot;
            }
        }
        __syncthreads();
        if (tid < heads) a.dw[row * n.heads + first_head + tid] = a.indexer.scale * dots[tid];
        __syncthreads();
    }
}

// (i, l) is [x > 0] g of slot i and head l.
template <class T>
struct SlotsByHeads {
    static constexpr bool by_columns = true;
    const T* g;
    const uint32_t* masks;
    int64_t next_word;
    int slots;

    __device__ T at(int slot, int64_t l, int64_t depth) const {
        if (slot >= slots || l >= depth) return T(0);
        return masks[l / 32 * next_word + slot] >> (l % 32) & 1 ? g[slot] : T(0);
    }
};

// out [batches, rows, slots, width] of a chunk. Block i works on row i / (slot tiles x column tiles).
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::threads)
    contribution_kernel(GatheredGradients<T> a, RowChunk chunk, T* out) {
    __shared__ typename Tile::Shared shared;
    const IndexerSizes& n = a.indexer.sizes;
    const int64_t slots = a.keys.slots, columns = (n.width + tile_rows - 1) / tile_rows;
    const int64_t tiles = (slots + tile_rows - 1) / tile_rows, local = blockIdx.x / (tiles * columns);
    const int64_t slot = blockIdx.x / columns % tiles * tile_rows, column = blockIdx.x % columns * tile_rows;
    const int64_t row = (chunk.batch + local / chunk.rows) * n.length + chunk.first + local % chunk.rows;
    const int left = a.keys.count(row) - static_cast<int>(slot);
    if (left <= 0) return;
    const int here = left < tile_rows ? left : tile_rows;
    const int wide = static_cast<int>(n.width - column < tile_rows ? n.width - column : tile_rows);
    Tile tile;
    tile.multiply(
        SlotsByHeads<T>{a.g + row * slots + slot, a.masks + row * slots + slot, a.keys.rows() * slots, here},
        WeightedQueries<T>{a.indexer.q + row * n.heads * n.width + column, a.indexer.w + row * n.heads,
                           a.indexer.scale, static_cast<uint32_t>(n.width), wide},
        n.heads, shared);
    T* to = out + (local * slots + slot) * n.width + column;
    tile.for_each([&](int i, int j, T value) {
        if (i < here && j < wide) to[i * n.width + j] = value;
    });
}

// dk[b,s,:] += the contributions of the chunk's queries that chose s.
template <class T>
void add_contributions(const GatheredGradients<T>& a, const InverseSelection& inverse, const RowChunk& chunk,
                       const T* contributions) {
    const int64_t width = a.indexer.sizes.width, keys = chunk.first + chunk.rows, length = a.keys.length;
    const int64_t begin = chunk.first * a.keys.slots, each = chunk.rows * a.keys.slots;
    const int32_t* offsets = inverse.offsets.template data<int32_t>();
    const int32_t* entries = inverse.entries.template data<int32_t>();
    for_each_element(chunk.batches * keys * width, [=] __device__(int64_t i) {
        const int64_t column = i % width, s = i / width % keys, z = i / (keys * width), b = chunk.batch + z;
        const int32_t* own = entries + b * length * a.keys.slots;
        const int32_t* range = offsets + b * (length + 1) + s;
        const int end = range[1];
        int at = lower_bound(own, range[0], end, begin);  // the chunk's first query
        T sum = 0;
#pragma unroll 4
        for (; at < end; ++at) {
            const int64_t entry = own[at] - begin;
            if (entry >= each) break;
            sum += contributions[(z * each + entry) * width + column];
        }
        a.dk[(b * length + s) * width + column] += sum;
    });
}

template <class T>
void gather_gradients(const GatheredGradients<T>& a) {
    const IndexerSizes& n = a.indexer.sizes;
    const int columns = gather_columns(n.width, full_pack<T>);
    launch_kernel(gather_query_gradients<T>,
                  {.blocks = dim3(static_cast<unsigned>(a.keys.rows())), .threads = dim3(128)}, a, columns);
    const InverseSelection inverse =
        invert_selection(a.keys.indices, a.keys.counts, n.batch, n.length, a.keys.slots);
    const int64_t row_bytes = a.keys.slots * n.width * static_cast<int64_t>(sizeof(T));
    const int64_t tiles =
        (a.keys.slots + tile_rows - 1) / tile_rows * ((n.width + tile_rows - 1) / tile_rows);
    for_chunks_of(
        chunk_limits().contribution_bytes / row_bytes, n.batch, n.length, [&](const RowChunk& chunk) {
            const int64_t rows = chunk.batches * chunk.rows;
            const Tensor contributions =
                Tensor::empty(Shape{rows, a.keys.slots, n.width}, dtype_of<T>, device);
            with_tile<T>([&]<class Tile>() {
                launch_kernel(
                    contribution_kernel<Tile, T>,
                    {.blocks = dim3(static_cast<unsigned>(rows * tiles)), .threads = dim3(Tile::threads)}, a,
                    chunk, contributions.template data<T>());
            });
            add_contributions(a, inverse, chunk, contributions.template data<T>());
        });
}

}  // namespace sieve::cuda
