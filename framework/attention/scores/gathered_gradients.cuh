// Gradients of the indexer from those of the scores of chosen keys, by gathering: O(T k) work and memory.
//
// Of queries (gather_query_gradients): a block a query; 128 threads = columns (16 bytes each) x groups of
// heads. Each thread adds up to 8 heads in registers while it walks over the chosen keys.
//
// Of keys: the chosen pairs' contributions sum_j [x > 0] g scale w[j] q[j,:], as tiles of
// blas/tile_product.cuh whose depth is the heads, go to memory for a few rows at a time (32 MiB); then each
// key adds up those of its queries in ascending order (selection/inverse_selection.h).
//
// FLOPs a chosen pair: 4 HI dI. Bytes: dI elements gathered, 2 dI for the contributions. Deterministic: no
// atomics.
#pragma once

#include "framework/attention/scores/head_tile.cuh"
#include "framework/attention/scores/score_rows.h"
#include "framework/attention/scores/weighted_queries.cuh"
#include "framework/attention/selection/bisection.cuh"
#include "framework/attention/selection/chosen_keys.cuh"
#include "framework/attention/selection/inverse_selection.h"
#include "framework/blas/tile_product.cuh"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"

namespace sieve::cuda {

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
                    g[tid] = a.g[row * a.keys.slots() + first + tid];
                    mask[tid] =
                        a.masks[(first_head / 32 * a.keys.rows() + row) * a.keys.slots() + first + tid];
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
    const int64_t slots = a.keys.slots(), columns = (n.width + tile_rows - 1) / tile_rows;
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
    const int64_t begin = chunk.first * a.keys.slots(), each = chunk.rows * a.keys.slots();
    const int32_t* offsets = inverse.offsets.template data<int32_t>();
    const int32_t* entries = inverse.entries.template data<int32_t>();
    for_each_element(chunk.batches * keys * width, [=] __device__(int64_t i) {
        const int64_t column = i % width, s = i / width % keys, z = i / (keys * width), b = chunk.batch + z;
        const int32_t* own = entries + b * length * a.keys.slots();
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
    const InverseSelection inverse = invert_selection(a.keys.selected, n.batch, n.length);
    const int64_t row_bytes = a.keys.slots() * n.width * static_cast<int64_t>(sizeof(T));
    const int64_t tiles =
        (a.keys.slots() + tile_rows - 1) / tile_rows * ((n.width + tile_rows - 1) / tile_rows);
    for_chunks_of(
        chunk_limits().contribution_bytes / row_bytes, n.batch, n.length, [&](const RowChunk& chunk) {
            const int64_t rows = chunk.batches * chunk.rows;
            const Tensor contributions =
                Tensor::empty(Shape{rows, a.keys.slots(), n.width}, dtype_of<T>, device);
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
