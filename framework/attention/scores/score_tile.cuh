// Indexer scores of one tile of queries and keys, exactly (head_tile.cuh).
#pragma once

#include "framework/attention/scores/head_tile.cuh"
#include "framework/attention/scores/score_rows.h"

namespace sieve::cuda {

template <class T>
__device__ ScoredRows<T> indexer_head_rows(const IndexerRows<T>& a, int64_t b) {
    const IndexerSizes& n = a.sizes;
    return {.q = a.q + b * n.length * n.heads * n.width,
            .k = a.k + b * n.length * n.width,
            .q_stride = n.heads * n.width,
            .q_head = n.width,
            .k_stride = n.width,
            .k_head = 0,
            .length = n.length,
            .heads = static_cast<int>(n.heads),
            .group = static_cast<int>(n.heads),
            .width = static_cast<int>(n.width)};
}

// A NaN stays one.
template <class T>
__device__ T relu(T x) {
    return x < T(0) ? T(0) : x;
}

// sum[i][j] = I of the thread's i-th query and j-th key in the tile at (t0, s0) of batch row b: heads are
// added in ascending order, from +0. Calls masks(word, bits) with the signs of each 32 heads, bits[i][j] >>
// h.
template <class T, class Masks>
__device__ void score_tile(const IndexerRows<T>& a, int64_t b, int64_t t0, int64_t s0,
                           typename HeadTile<T>::Shared& shared, T (&sum)[4][4], const Masks& masks) {
    using Tile = HeadTile<T>;
    const ScoredRows<T> rows = indexer_head_rows(a, b);
    const T* w[4];
    for (int i = 0; i < 4; ++i) {
        const int64_t t = t0 + Tile::query(i);
        w[i] = a.w + (b * rows.length + (t < rows.length ? t : rows.length - 1)) * rows.heads;
    }
    uint32_t bits[4][4] = {};
    Tile(rows, t0, s0, shared).for_each_head([&](int h, const T(&x)[4][4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const T weight = a.scale * w[i][h];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const T product = x[i][j];
                sum[i][j] += weight * relu(product);
                bits[i][j] |= static_cast<uint32_t>(product > T(0)) << (h % 32);
            }
        }
        if (h % 32 < 31 && h + 1 < rows.heads) return;
        masks(h / 32, bits);
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) bits[i][j] = 0;
    });
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) sum[i][j] += T(0);  // a product that underflowed may have left -0
}

}  // namespace sieve::cuda
