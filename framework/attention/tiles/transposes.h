// Private to this room.
// Between rows of a head and the lanes of a tile.
#pragma once

#include "framework/attention/tiles/attention_vectors.h"

namespace sieve::cpu {

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
