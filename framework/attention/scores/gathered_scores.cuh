// Products of each query with its chosen keys, gathered: O(T k) work. What is made of them is kept for the
// chosen pairs alone, as [B T, slots]: the indexer's scores and signs here. The target of its training is
// made from such products in target/gathered_targets.cuh.
//
// A block takes up to 128 chosen keys of one query, a key a thread. Rows of keys and of up to 16 heads of the
// query pass through shared memory 128 bytes at a time in two stages, as in head_tile.cuh; a thread
// multiplies its key with all those heads, whose rows the whole warp reads together. The indexer's heads
// share their keys; of the main attention the heads of one key head do.
//
// FLOPs a chosen pair: 2 HI dI. Bytes: dI elements gathered, mostly from the L2 cache; 6 for scores and
// signs. Deterministic.
#pragma once

#include "framework/attention/scores/fragment_scores.cuh"
#include "framework/attention/selection/chosen_keys.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"

namespace sieve::cuda {

// value = sum over the indexer's heads of scale w ReLU(product), and the products' signs.
template <class T>
struct GatheredScores {
    IndexerRows<T> indexer;
    uint32_t* masks;  // [words, B T, slots], as score_rows.h has them; or null

    __device__ ScoredRows<T> rows(int64_t b) const { return indexer_head_rows(indexer, b); }
    __device__ T term(int64_t row, int h, T product) const {
        return indexer.scale * indexer.w[row * indexer.sizes.heads + h] * relu(product);
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
template <class T, int most_heads>
__global__ void __launch_bounds__(128) gather_kernel(ChosenKeys keys, GatheredScores<T> terms, T* values) {
    const int64_t tiles = (keys.slots() + blockDim.x - 1) / blockDim.x, row = blockIdx.x / tiles;
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
            signs |= static_cast<uint32_t>(product > T(0)) << (h % 32);
        },
        [&](int h) {
            if (h % 32 != 0 && h < tile.a.heads) return;
            if (terms.masks && slot < count)
                terms.masks[((h - 1) / 32 * keys.rows() + row) * keys.slots() + slot] = signs;
            signs = 0;
        });
    if (slot < count) values[row * keys.slots() + slot] = value;
}

template <class T, int most_heads>
void launch_gather(const ChosenKeys& keys, const GatheredScores<T>& terms, T* values) {
    const int threads = keys.slots() > 64 ? 128 : 64;
    const int64_t tiles = (keys.slots() + threads - 1) / threads;
    launch_kernel(gather_kernel<T, most_heads>,
                  {.blocks = dim3(static_cast<unsigned>(keys.rows() * tiles)),
                   .threads = dim3(static_cast<unsigned>(threads)),
                   .shared_bytes = GatherTile<T, most_heads>::bytes(threads)},
                  keys, terms, values);
}

template <class T>
void gather(const ChosenKeys& keys, const GatheredScores<T>& terms, T* values) {
    const int64_t heads = terms.indexer.sizes.heads;
    if (heads == 1) return launch_gather<T, 1>(keys, terms, values);
    if (heads <= 4) return launch_gather<T, 4>(keys, terms, values);
    launch_gather<T, 16>(keys, terms, values);
}

// The same on tensor cores (fragment_scores.cuh). A block takes one query; each of its
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
            if (there) a.masks[(word * keys.rows() + row) * keys.slots() + slot] = mask;
        });
        if (there) values[row * keys.slots() + slot] = score;
    }
}

inline void gather_scores(const ChosenKeys& keys, const GatheredScores<double>& a, double* values) {
    gather(keys, a, values);
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
    if (!done) gather(keys, a, values);
}

}  // namespace sieve::cuda
