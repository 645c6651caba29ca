// The arithmetic of the lightning indexer for a block of query rows: scores and, from dLoss/dI, gradients.
// Shared by indexer_scores, indexer_select and the KL losses, so that all of them see the same score bits.
//
// Tile picture: the rows (t,j) of a block (about 128 of them) meet one panel of keys at a time. The products
// x = q[t,j] . k[s] of one panel form a contiguous tile [rows][panel_width] that stays in the L1 or L2 cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "framework/attention/scores/panel_sizes.h"
#include "framework/blas/tile_product.h"

namespace sieve::cpu {

// Queries per block: about 128 rows (t,j), so that the tile of one panel is 32 KiB.
inline int64_t queries_per_block(int64_t heads) {
    return std::clamp<int64_t>(128 / std::max<int64_t>(heads, 1), 1, 32);
}

template <class T>
int64_t panel_count(int64_t keys) {
    return (keys + panel_width<T> - 1) / panel_width<T>;
}

// Elements from one row of scores to the next: whole panels, and one line more, since rows a power of two
// apart would share the same few cache sets.
template <class T>
int64_t score_stride(int64_t keys) {
    return panel_count<T>(keys) * panel_width<T> + lanes<T>;
}

// [keys, width] -> panels [panel_count, width, panel_width], zero behind the last key.
template <class T>
SIEVE_INLINE void pack_panels(const T* __restrict k, int64_t keys, int64_t width, T* __restrict packed) {
    for (int64_t c = 0; c < panel_count<T>(keys); ++c, packed += width * panel_width<T>) {
        const int64_t here = std::min(panel_width<T>, keys - c * panel_width<T>);
        if (here < panel_width<T>) std::fill(packed, packed + width * panel_width<T>, T(0));
        for (int64_t s = 0; s < here; ++s)
            for (int64_t i = 0; i < width; ++i)
                packed[i * panel_width<T> + s] = k[(c * panel_width<T> + s) * width + i];
    }
}

// [rows, width] -> [rows, round_up(width, lanes)], zero padded.
template <class T>
SIEVE_INLINE void pad_rows(const T* __restrict x, int64_t rows, int64_t width, T* __restrict padded) {
    const int64_t wide = round_up(width, lanes<T>);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < width; ++j) padded[i * wide + j] = x[i * width + j];
        for (int64_t j = width; j < wide; ++j) padded[i * wide + j] = T(0);
    }
}

// Queries [begin, end) of one batch row.
template <class T>
struct ScoreBlock {
    const T* q;         // [T,HI,dI], this batch row's
    const T* w;         // [T,HI]
    const T* k_panels;  // pack_panels of k [T,dI]
    int64_t heads, width;
    T scale;
    int64_t begin, end;

    int64_t queries() const { return end - begin; }
    int64_t rows() const { return queries() * heads; }
};

// x[(t,j)][s] = q[t,j] . k[s] for the keys of panel c; x is [rows, panel_width].
template <class T, int width>
SIEVE_INLINE void dot_panel(const ScoreBlock<T>& a, int64_t c, T* x) {
    tile_product<T, width>(TileProduct<T>{.a = a.q + a.begin * a.heads * a.width,
                                          .a_row = a.width,
                                          .a_step = 1,
                                          .b = a.k_panels + c * a.width * panel_width<T>,
                                          .ldb = panel_width<T>,
                                          .c = x,
                                          .ldc = panel_width<T>,
                                          .rows = a.rows(),
                                          .cols = panel_width<T>,
                                          .depth = a.width,
                                          .start = TileStart::zero});
}

// scores[t][c * panel_width + s] = sum_j (scale w[t,j]) ReLU(x[(t,j)][s]). Sums start at +0, so no score is
// -0; ReLU is written so that a NaN stays one.
template <class T, int width>
SIEVE_INLINE void sum_heads(const ScoreBlock<T>& a, const T* x, int64_t c, T* scores, int64_t row_stride) {
    for (int64_t t = 0; t < a.queries(); ++t) {
        const T* w = a.w + (a.begin + t) * a.heads;
        const T* row = x + t * a.heads * panel_width<T>;
        T* out = scores + t * row_stride + c * panel_width<T>;
        for (int64_t s = 0; s < panel_width<T>; s += 4 * width) {
            Vector<T, width> sum[4] = {};
            for (int64_t j = 0; j < a.heads; ++j)
                for (int v = 0; v < 4; ++v) {
                    const Vector<T, width> dot =
                        load_anywhere<T, width>(row + j * panel_width<T> + s + v * width);
                    sum[v] += (a.scale * w[j]) * (dot < T(0) ? Vector<T, width>{} : dot);
                }
            for (int v = 0; v < 4; ++v) store_anywhere<T, width>(out + s + v * width, sum[v]);
        }
    }
}

// Scores of all keys s < a.end into scores [queries, row_stride]; row_stride is score_stride(keys) or more.
// `x` is one tile, or (keep) one per panel, all of which the gradients will read.
template <class T, int width>
SIEVE_INLINE void score_rows(const ScoreBlock<T>& a, T* x, bool keep, T* scores, int64_t row_stride) {
    for (int64_t c = 0; c < panel_count<T>(a.end); ++c) {
        T* tile = keep ? x + c * a.rows() * panel_width<T> : x;
        dot_panel<T, width>(a, c, tile);
        sum_heads<T, width>(a, tile, c, scores, row_stride);
    }
}

// What the gradients of a block need beside its scores.
template <class T>
struct ScoreGradients {
    const T* g;  // [queries, row_stride] = dLoss/dI, 0 at every key that does not count, panels filled
    int64_t row_stride;
    T* x;             // the kept tiles; overwritten
    const T* k_rows;  // pad_rows of k
    T* weighted_q;    // scratch [rows, wide], wide = round_up(width, lanes)
    T* d;             // scratch [rows, wide]
    T* dq;            // [T,HI,dI], this batch row's: rows of the block are written
    T* dw;            // [T,HI]: likewise
    T* dk;            // [T, wide]: added to
};

// tile[(t,j)][s] = [x > 0] g[t,s]
template <class T>
SIEVE_INLINE void mask_tile(const ScoreBlock<T>& a, const T* g, int64_t row_stride, T* tile) {
    for (int64_t t = 0; t < a.queries(); ++t)
        for (int64_t j = 0; j < a.heads; ++j) {
            T* __restrict x = tile + (t * a.heads + j) * panel_width<T>;
            const T* __restrict gt = g + t * row_stride;
#pragma omp simd
            for (int64_t s = 0; s < panel_width<T>; ++s) x[s] = x[s] > T(0) ? gt[s] : T(0);
        }
}

// dq[t,j] = scale w[t,j] d and dw[t,j] = scale q[t,j] . d, where d = sum_s g[t,s] [x > 0] k[s]: the dot
// product gathers g ReLU(x), since ReLU(x) = [x > 0] q.k.
template <class T>
SIEVE_INLINE void finish_query_gradients(const ScoreBlock<T>& a, const ScoreGradients<T>& b) {
    const int64_t wide = round_up(a.width, lanes<T>);
    for (int64_t r = 0; r < a.rows(); ++r) {
        const int64_t row = a.begin * a.heads + r;
        const T* __restrict q = a.q + row * a.width;
        const T* __restrict d = b.d + r * wide;
        T* __restrict dq = b.dq + row * a.width;
        const T weight = a.scale * a.w[row];
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < a.width; ++i) {
            dot += q[i] * d[i];
            dq[i] = weight * d[i];
        }
        b.dw[row] = a.scale * dot;
    }
}

//   d[(t,j)] = sum_s [x>0] g[t,s] k[s]        dk[s] += sum_(t,j) [x>0] g[t,s] (scale w[t,j] q[t,j])
template <class T, int width>
SIEVE_INLINE void score_gradients(const ScoreBlock<T>& a, const ScoreGradients<T>& b) {
    const int64_t wide = round_up(a.width, lanes<T>);
    pad_rows(a.q + a.begin * a.heads * a.width, a.rows(), a.width, b.weighted_q);
    for (int64_t r = 0; r < a.rows(); ++r)
        for (int64_t i = 0; i < wide; ++i) b.weighted_q[r * wide + i] *= a.scale * a.w[a.begin * a.heads + r];
    for (int64_t c = 0; c < panel_count<T>(a.end); ++c) {
        T* tile = b.x + c * a.rows() * panel_width<T>;
        mask_tile(a, b.g + c * panel_width<T>, b.row_stride, tile);
        const int64_t keys = std::min(panel_width<T>, a.end - c * panel_width<T>);
        tile_product<T, width>(TileProduct<T>{.a = tile,
                                              .a_row = panel_width<T>,
                                              .a_step = 1,
                                              .b = b.k_rows + c * panel_width<T> * wide,
                                              .ldb = wide,
                                              .c = b.d,
                                              .ldc = wide,
                                              .rows = a.rows(),
                                              .cols = wide,
                                              .depth = keys,
                                              .start = c > 0 ? TileStart::add : TileStart::zero});
        tile_product<T, width>(TileProduct<T>{.a = tile,
                                              .a_row = 1,
                                              .a_step = panel_width<T>,
                                              .b = b.weighted_q,
                                              .ldb = wide,
                                              .c = b.dk + c * panel_width<T> * wide,
                                              .ldc = wide,
                                              .rows = keys,
                                              .cols = wide,
                                              .depth = a.rows(),
                                              .start = TileStart::add});
    }
    finish_query_gradients(a, b);
}

}  // namespace sieve::cpu
