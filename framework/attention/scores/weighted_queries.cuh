// Private to this room.
// The right operand of all gradients of keys, as blas/tile_product.cuh reads it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sieve::cuda {

// Element (i, l) is scale w q of column i and pair l = (t, j).
template <class T>
struct WeightedQueries {
    static constexpr bool by_columns = true;

    const T* q;  // [pairs, width], from the first column of the tile
    const T* w;  // [pairs]
    T scale;
    uint32_t width;
    int columns;

    __device__ T at(int column, int64_t l, int64_t depth) const {
        if (column >= columns || l >= depth) return T(0);
        return scale * w[l] * q[static_cast<uint32_t>(l) * width + column];
    }
};

}  // namespace sieve::cuda
