// A small matrix product whose every element is one chain of multiply-adds, so that its bits depend on nothing but
// its own row of A, its column of B and what it starts from: not on its place in a tile or on how many rows and
// columns there are.
//
//   C[i][j] = start + A(i,0) B[0][j] + A(i,1) B[1][j] + ...      added from left to right
//
// Tile picture: R rows by V vectors are held in registers while the depth runs; A is read one element at a time (any
// strides, so a transposed A costs nothing), B by whole vectors. There are 32 registers for vectors of 64 bytes, 16
// for shorter ones:
//
//                       4 vectors of columns or more   2       1
//   64-byte vectors     4 x 4                          8 x 2   8 x 1
//   shorter ones        6 x 2                          6 x 2   6 x 1
//
// The caller keeps B in the L1 cache. The callers are instantiated for each width of vectors (core/vectors.h).
#pragma once

#include <cstdint>

#include "framework/core/vectors.h"

namespace sieve::cpu {

enum class TileStart { zero, add, scale_add };  // 0, C[i][j], or factor[j] * C[i][j]

template <class T>
struct TileProduct {
    const T* a;
    int64_t a_row, a_step;  // A(i,p) = a[i * a_row + p * a_step]
    const T* b;
    int64_t ldb;
    T* c;
    int64_t ldc;
    int64_t rows, cols, depth;  // cols is a multiple of the vectors' width
    TileStart start = TileStart::zero;
    const T* factor = nullptr;        // [cols], for scale_add
    const int32_t* b_rows = nullptr;  // when set, row p of B is stored at row b_rows[p]
    const int32_t* c_rows = nullptr;  // when set, row i of C is stored at row c_rows[i]; all different

    T* c_row(int64_t i) const { return c + (c_rows ? c_rows[i] : i) * ldc; }
    const T* b_row(int64_t p) const { return b + (b_rows ? b_rows[p] : p) * ldb; }
};

template <class T, int width, int R, int V>
SIEVE_INLINE void tile_product_block(const TileProduct<T>& g, int64_t i, int64_t j) {
    Vector<T, width> sum[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            sum[r][v] = Vector<T, width>{};
            if (g.start == TileStart::zero) continue;
            sum[r][v] = load_anywhere<T, width>(g.c_row(i + r) + j + v * width);
            if (g.start == TileStart::scale_add)
                sum[r][v] *= load_anywhere<T, width>(g.factor + j + v * width);
        }
    const T* a = g.a + i * g.a_row;
    for (int64_t p = 0; p < g.depth; ++p) {
        const T* b = g.b_row(p) + j;
        Vector<T, width> right[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) right[v] = load_anywhere<T, width>(b + v * width);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v] += a[r * g.a_row] * right[v];
        a += g.a_step;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store_anywhere<T, width>(g.c_row(i + r) + j + v * width, sum[r][v]);
}

// Rows [i, rows) by R, then by half as many, of the columns from j on.
template <class T, int width, int R, int V>
SIEVE_INLINE void tile_product_columns(const TileProduct<T>& g, int64_t i, int64_t j) {
    for (; i + R <= g.rows; i += R) tile_product_block<T, width, R, V>(g, i, j);
    if constexpr (R > 1) tile_product_columns<T, width, R == 6 ? 4 : R / 2, V>(g, i, j);
}

template <class T, int width>
SIEVE_INLINE void tile_product(const TileProduct<T>& g) {
    constexpr bool long_vectors = width * sizeof(T) == 64;
    constexpr int R = long_vectors ? 8 : 6;
    int64_t j = 0;
    if constexpr (long_vectors)
        for (; j + 4 * width <= g.cols; j += 4 * width) tile_product_columns<T, width, 4, 4>(g, 0, j);
    for (; j + 2 * width <= g.cols; j += 2 * width) tile_product_columns<T, width, R, 2>(g, 0, j);
    if (j < g.cols) tile_product_columns<T, width, R, 1>(g, 0, j);
}

}  // namespace sieve::cpu
