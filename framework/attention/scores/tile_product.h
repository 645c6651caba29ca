// A small matrix product whose every element is one chain of multiply-adds, so that its bits depend on
// nothing but its own row of A and column of B.
//
//   C[i][j] = (add ? C[i][j] : 0) + A(i,0) B[0][j] + A(i,1) B[1][j] + ...      added from left to right
//
// Tile picture: 4 rows by 4 vectors of 64 bytes (or 6 rows by 2 shorter ones) are held in registers while the
// depth runs; A is read one element at a time (any strides, so a transposed A costs nothing), B by whole
// vectors. The caller keeps B in the L1 cache. The callers are instantiated for each width of vectors
// (framework/core/vectors.h).
#pragma once

#include <cstdint>

#include "framework/core/vectors.h"

namespace sieve::cpu {

// Rows are padded to whole lines of 64 bytes and keys are handled in panels of four lines, whatever the width
// of the machine's vectors.
template <class T>
constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t panel_width = 4 * lanes<T>;

template <class T>
struct TileProduct {
    const T* a;
    int64_t a_row, a_step;  // A(i,p) = a[i * a_row + p * a_step]
    const T* b;
    int64_t ldb;
    T* c;
    int64_t ldc;
    int64_t rows, cols, depth;  // cols is a multiple of lanes<T>
    bool add;
    const int32_t* b_rows = nullptr;  // when set, row p of B is stored at row b_rows[p]
    const int32_t* c_rows = nullptr;  // when set, row i of C is stored at row c_rows[i]; all different

    T* c_row(int64_t i) const { return c + (c_rows ? c_rows[i] : i) * ldc; }
    const T* b_row(int64_t p) const { return b + (b_rows ? b_rows[p] : p) * ldb; }
};

template <class T, int width, int R, int V>
SIEVE_INLINE void tile_product_block(const TileProduct<T>& g, int64_t i, int64_t j) {
    Vector<T, width> sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v)
            sum[r][v] = g.add ? Vector<T, width>(load_anywhere<T, width>(g.c_row(i + r) + j + v * width))
                              : Vector<T, width>{};
    const T* a = g.a + i * g.a_row;
    for (int64_t p = 0; p < g.depth; ++p) {
        const T* b = g.b_row(p) + j;
        Vector<T, width> right[V];
        for (int v = 0; v < V; ++v) right[v] = load_anywhere<T, width>(b + v * width);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) sum[r][v] += a[r * g.a_row] * right[v];
        a += g.a_step;
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store_anywhere<T, width>(g.c_row(i + r) + j + v * width, sum[r][v]);
}

template <class T, int width, int R, int V>
SIEVE_INLINE void tile_product_rows(const TileProduct<T>& g, int64_t i) {
    int64_t j = 0;
    for (; j + V * width <= g.cols; j += V * width) tile_product_block<T, width, R, V>(g, i, j);
    for (; j < g.cols; j += width) tile_product_block<T, width, R, 1>(g, i, j);
}

// `width`: elements of a vector register, of which there are 32 when it holds 64 bytes and 16 otherwise.
template <class T, int width>
SIEVE_INLINE void tile_product(const TileProduct<T>& g) {
    constexpr bool wide = width * sizeof(T) == 64;
    constexpr int R = wide ? 4 : 6, V = wide ? 4 : 2;
    int64_t i = 0;
    for (; i + R <= g.rows; i += R) tile_product_rows<T, width, R, V>(g, i);
    if (R > 4 && i + 4 <= g.rows) {
        tile_product_rows<T, width, 4, V>(g, i);
        i += 4;
    }
    for (; i + 2 <= g.rows; i += 2) tile_product_rows<T, width, 2, V>(g, i);
    for (; i < g.rows; ++i) tile_product_rows<T, width, 1, V>(g, i);
}

}  // namespace sieve::cpu
