// Private to this room.
// Which keys the queries of a tile attend to, as the tile kernels ask it: every key up to the query itself,
// or the selected ones, a bit a key. Squares of 64 queries x 64 keys from which nobody selected are skipped.
//
//                   keys 0..31   32..63   64..  ..
//   words  query 0  [ bits     ][       ][     ]        [batch, padded rows, row_words], 0 beyond the rows
//          query 1  [          ][       ][     ]
//
//   squares[i][j]   1 when a query of square row i selected a key of square row j, or the other way round:
//                   the kernels that own keys walk queries. Symmetric, so that both walk along a row of it.
//
// The words take rows^2 / 8 bytes. automatic has at most 32 * slots rows of tiles, so that this is no more
// than the selection itself takes.
#pragma once

#include "framework/core/cuda/packs.cuh"

namespace sieve::cuda {

constexpr int square = 64;

struct Attended {
    const uint32_t* words;   // null: every key up to the query itself
    const uint8_t* squares;  // [batch, sides, sides]
    int rows;                // queries (and keys) at and beyond it are not part of the tiles
    int row_words, sides;

    // Whole tiles of 128 queries: what a tile holds beyond the last row selects nothing.
    __device__ __host__ int64_t padded_rows() const { return (rows + 127) / 128 * 128; }
    __device__ Attended of_batch(int64_t b) const {
        if (!words) return *this;
        return {words + b * padded_rows() * row_words, squares + b * sides * sides, rows, row_words, sides};
    }
    __device__ bool operator()(int t, int s) const {
        return words ? selected_of(t, s) >> s % 32 & 1 : s <= t;
    }
    // Bit i says whether query t selected the i-th of the 32 keys, from a multiple of 32 on, among which s
    // is.
    __device__ uint32_t selected_of(int t, int s) const {
        return words[static_cast<unsigned>(t) * static_cast<unsigned>(row_words) + s / 32];
    }
    // Bit i says whether query t attends to the i-th of the 64 keys from `first`, a multiple of 64, on.
    __device__ uint64_t keys_of(int t, int first) const {
        if (!words) return t < first ? 0 : t - first >= 63 ? ~uint64_t{0} : (uint64_t{2} << (t - first)) - 1;
        return selected_of(t, first) | static_cast<uint64_t>(selected_of(t, first + 32)) << 32;
    }
    // True when the tile [a, a + a_size) x [b, b + b_size) of queries and keys, in any order, may not be
    // skipped.
    __device__ bool any(int a, int a_size, int b, int b_size) const {
        if (!words) return true;
        for (int i = a / square; i < (a + a_size + square - 1) / square && i < sides; ++i)
            for (int j = b / square; j < (b + b_size + square - 1) / square && j < sides; ++j)
                if (squares[i * sides + j]) return true;
        return false;
    }
};

}  // namespace sieve::cuda
