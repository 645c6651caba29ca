// A small matrix product whose every element is one chain of multiply-adds, so that its bits depend on
// nothing but its own row of A and column of B.
//
//   C[i][j] = (add ? C[i][j] : 0) + A(i,0) B[0][j] + A(i,1) B[1][j] + ...      added from left to right
//
// Tile picture: 4 rows by 4 vectors of 64 bytes are held in registers while the depth runs; A is read one
// element at a time (any strides, so a transposed A costs nothing), B by whole vectors. The caller keeps B in
// the L1 cache. Everything here is inlined into the function clones of its callers (framework/core/simd.h).
#pragma once

#include <cstdint>

#include "framework/core/simd.h"

namespace sieve::cpu {

// 64 bytes of T. The same type with the alignment of T reads and writes at any address.
template <class T>
struct Wide;
template <>
struct Wide<float> {
    typedef float Vector __attribute__((vector_size(64)));
    typedef float Unaligned __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct Wide<double> {
    typedef double Vector __attribute__((vector_size(64)));
    typedef double Unaligned __attribute__((vector_size(64), aligned(8), may_alias));
};

template <class T>
constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));
// Keys are handled in panels of this many.
template <class T>
constexpr int64_t panel_width = 4 * lanes<T>;

constexpr int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

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

template <class T, int R, int V>
SIEVE_INLINE void tile_product_block(const TileProduct<T>& g, int64_t i, int64_t j) {
    using Vector = typename Wide<T>::Vector;
    using Unaligned = typename Wide<T>::Unaligned;
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v)
            sum[r][v] = g.add ? Vector(*reinterpret_cast<const Unaligned*>(g.c_row(i + r) + j + v * lanes<T>))
                              : Vector{};
    const T* a = g.a + i * g.a_row;
    for (int64_t p = 0; p < g.depth; ++p) {
        const T* b = g.b_row(p) + j;
        Vector right[V];
        for (int v = 0; v < V; ++v) right[v] = *reinterpret_cast<const Unaligned*>(b + v * lanes<T>);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) sum[r][v] += a[r * g.a_row] * right[v];
        a += g.a_step;
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v)
            *reinterpret_cast<Unaligned*>(g.c_row(i + r) + j + v * lanes<T>) = sum[r][v];
}

template <class T, int R>
SIEVE_INLINE void tile_product_rows(const TileProduct<T>& g, int64_t i) {
    int64_t j = 0;
    for (; j + 4 * lanes<T> <= g.cols; j += 4 * lanes<T>) tile_product_block<T, R, 4>(g, i, j);
    for (; j < g.cols; j += lanes<T>) tile_product_block<T, R, 1>(g, i, j);
}

template <class T>
SIEVE_INLINE void tile_product(const TileProduct<T>& g) {
    int64_t i = 0;
    for (; i + 4 <= g.rows; i += 4) tile_product_rows<T, 4>(g, i);
    for (; i < g.rows; ++i) tile_product_rows<T, 1>(g, i);
}

}  // namespace sieve::cpu
