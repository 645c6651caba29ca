// Dot products of a query's rows with chosen keys.
//
// Tile picture: keys lie as zero-padded rows of whole vectors. With vectors of 16, 4 heads by 4 keys (or 1
// head by 16) give 16 vectors of partial sums, which a tree of shuffles adds up into one of 16 dot products.
#pragma once

#include <algorithm>
#include <cstring>

#include "framework/core/vectors.h"

namespace sieve::cpu {

// out[r][i] = q[r] . k[chosen[i]] for R rows of q; `wide` is a multiple of lanes. Writes up to width / R
// numbers more than n in each row.
template <class T, int width, int R>
SIEVE_INLINE void gather_dots(const T* q, const T* k, int64_t wide, const int32_t* chosen, int64_t n, T* out,
                              int64_t stride) {
    constexpr int keys = width / R;
    for (int64_t i = 0; i < n; i += keys) {
        const T* key[keys];
        for (int e = 0; e < keys; ++e) key[e] = k + wide * chosen[std::min(i + e, n - 1)];
        Vector<T, width> sum[R * keys] = {};
        for (int64_t d = 0; d < wide; d += width)
            for (int e = 0; e < keys; ++e) {
                const Vector<T, width> right = load_anywhere<T, width>(key[e] + d);
                for (int r = 0; r < R; ++r)
                    sum[r * keys + e] += load_anywhere<T, width>(q + r * wide + d) * right;
            }
        sum_each<T, width>(sum);
        for (int r = 0; r < R; ++r)
            std::memcpy(out + r * stride + i, reinterpret_cast<const T*>(&sum[0]) + r * keys,
                        keys * sizeof(T));
    }
}

template <class T, int width>
SIEVE_INLINE void gather_dots_of(const T* q, int64_t rows, const T* k, int64_t wide, const int32_t* chosen,
                                 int64_t n, T* out, int64_t stride) {
    constexpr int R = width < 4 ? width : 4;
    int64_t r = 0;
    for (; r + R <= rows; r += R)
        gather_dots<T, width, R>(q + r * wide, k, wide, chosen, n, out + r * stride, stride);
    for (; r < rows; ++r)
        gather_dots<T, width, 1>(q + r * wide, k, wide, chosen, n, out + r * stride, stride);
}

}  // namespace sieve::cpu
