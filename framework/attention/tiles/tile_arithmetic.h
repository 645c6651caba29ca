// The small matrix products of attention tiles.
//
//   c[i,n] = start + sum_k a(i,k) * b[k,n]      a(i,k) is broadcast, n runs along vectors
//
// The sum runs over k in order with one accumulator an element: its bits do not depend on the place of i or n
// in a tile, nor on how many rows there are.
#pragma once

#include "framework/attention/tiles/attention_vectors.h"

namespace sieve::cpu {

enum class Layout { rows, columns };        // a(i,k) = a[i*lda + k], or a[k*lda + i]
enum class Start { zero, add, scale_add };  // 0, c[i,n], or factor[n] * c[i,n]

template <class T>
struct TileProduct {
    const T* a;
    int64_t lda;
    const T* b;  // [depth, n], vector-aligned
    int64_t ldb;
    T* c;  // [m, n], vector-aligned
    int64_t ldc;
    int64_t m, n, depth;  // n is a multiple of the vector width
    const T* factor;      // [n], for scale_add
};

template <class T, int width, int rows, int vectors, Layout layout, Start start>
SIEVE_INLINE void multiply_block(const TileProduct<T>& p, int64_t i, int64_t n) {
    using V = Vector<T, width>;
    V sum[rows][vectors];
    T* c = p.c + i * p.ldc + n;
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            if constexpr (start == Start::zero) sum[r][v] = V{};
            if constexpr (start != Start::zero) sum[r][v] = load<T, width>(c + r * p.ldc + v * width);
            if constexpr (start == Start::scale_add) sum[r][v] *= load<T, width>(p.factor + n + v * width);
        }
    const T* a = layout == Layout::rows ? p.a + i * p.lda : p.a + i;
    const T* b = p.b + n;
    for (int64_t k = 0; k < p.depth; ++k, b += p.ldb) {
        V bk[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) bk[v] = load<T, width>(b + v * width);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const T ar = layout == Layout::rows ? a[r * p.lda + k] : a[k * p.lda + r];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sum[r][v] += ar * bk[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) at<T, width>(c + r * p.ldc + v * width) = sum[r][v];
}

template <class T, int width, int vectors, Layout layout, Start start>
SIEVE_INLINE void multiply_columns(const TileProduct<T>& p, int64_t n) {
    constexpr int rows = width * sizeof(T) == 64 ? 8 : 4;  // rows * vectors accumulators fit the registers
    int64_t i = 0;
    for (; i + rows <= p.m; i += rows) multiply_block<T, width, rows, vectors, layout, start>(p, i, n);
    for (; i < p.m; ++i) multiply_block<T, width, 1, vectors, layout, start>(p, i, n);
}

template <class T, int width, Layout layout, Start start>
SIEVE_INLINE void multiply(const TileProduct<T>& p) {
    int64_t n = 0;
    for (; n + 2 * width <= p.n; n += 2 * width) multiply_columns<T, width, 2, layout, start>(p, n);
    if (n < p.n) multiply_columns<T, width, 1, layout, start>(p, n);
}

// to[j*ldt + l] = factor * from[l*ldf + j] for l < lanes, j < columns; 0 for l in [lanes, ldt).
template <class T, int width>
SIEVE_INLINE void transpose_into(const T* from, int64_t ldf, int64_t lanes, int64_t columns, T factor, T* to,
                                 int64_t ldt) {
    using V = Vector<T, width>;
    int64_t j = 0;
    for (; j + width <= columns; j += width)
        for (int64_t l0 = 0; l0 < ldt; l0 += width) {
            V x[width];
#pragma GCC unroll 16
            for (int l = 0; l < width; ++l)
                if (l0 + l < lanes)
                    x[l] = load_anywhere<T, width>(from + (l0 + l) * ldf + j);
                else
                    x[l] = V{};
            transpose<T, width>(x);
#pragma GCC unroll 16
            for (int l = 0; l < width; ++l) at<T, width>(to + (j + l) * ldt + l0) = x[l] * factor;
        }
    for (; j < columns; ++j)
        for (int64_t l = 0; l < ldt; ++l) to[j * ldt + l] = l < lanes ? factor * from[l * ldf + j] : T(0);
}

// to[l*ldt + j] = factor[l] * from[j*ldf + l] for l < lanes, j < columns: the way back.
template <class T, int width>
SIEVE_INLINE void transpose_back(const T* from, int64_t ldf, const T* factor, int64_t lanes, int64_t columns,
                                 T* to, int64_t ldt) {
    using V = Vector<T, width>;
    int64_t j = 0;
    for (; j + width <= columns; j += width)
        for (int64_t l0 = 0; l0 < lanes; l0 += width) {
            V x[width];
            const V f = load<T, width>(factor + l0);
#pragma GCC unroll 16
            for (int l = 0; l < width; ++l) x[l] = load<T, width>(from + (j + l) * ldf + l0) * f;
            transpose<T, width>(x);
#pragma GCC unroll 16
            for (int l = 0; l < width; ++l)
                if (l0 + l < lanes) store_anywhere<T, width>(to + (l0 + l) * ldt + j, x[l]);
        }
    for (; j < columns; ++j)
        for (int64_t l = 0; l < lanes; ++l) to[l * ldt + j] = factor[l] * from[j * ldf + l];
}

}  // namespace sieve::cpu
