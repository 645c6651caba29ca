// Which keys the queries of a tile attend to, as the tile kernels ask it: every key up to the query itself,
// or the selected ones, a bit a key. Squares of 64 queries x 64 keys from which nobody selected are skipped.
//
//                   keys 0..31   32..63   64..  ..
//   words  query 0  [ bits     ][       ][     ]        [batch, rows, row_words]
//          query 1  [          ][       ][     ]
//
//   squares[i][j]   1 when a query of square row i selected a key of square row j, or the other way round:
//   the
//                   kernels that own keys walk queries. Symmetric, so that both walk along a row of it.
//
// The words take rows^2 / 8 bytes. The rows of automatic's tiles are at most 32 * slots, so that this is no
// more than the selection itself takes.
#pragma once

#include "framework/core/cuda/packs.cuh"

namespace sieve::cuda {

constexpr int square = 64;

struct Attended {
    const uint32_t* words;   // null: every key up to the query itself
    const uint8_t* squares;  // [batch, sides, sides]
    int rows;                // queries (and keys) at and beyond it are not part of the tiles
    int row_words, sides;

    __device__ Attended of_batch(int64_t b) const {
        if (!words) return *this;
        return {words + b * rows * row_words, squares + b * sides * sides, rows, row_words, sides};
    }
    __device__ bool operator()(int t, int s) const {
        if (!words) return s <= t;
        return t < rows && (words[static_cast<int64_t>(t) * row_words + s / 32] >> s % 32 & 1);
    }
    // Of the 32 keys among which s is, from a multiple of 32 on: bit i says whether query t attends to the
    // i-th.
    __device__ uint32_t word_of(int t, int s) const {
        const int before = t - s / 32 * 32;
        if (!words) return before < 0 ? 0 : before >= 31 ? ~0u : (2u << before) - 1;
        return t < rows ? words[static_cast<int64_t>(t) * row_words + s / 32] : 0;
    }
    // The same of the 64 keys from `first`, a multiple of 64, on.
    __device__ uint64_t keys_of(int t, int first) const {
        if (!words) return t < first ? 0 : t - first >= 63 ? ~uint64_t{0} : (uint64_t{2} << (t - first)) - 1;
        if (t >= rows) return 0;
        const auto pair = load_pack<2>(words + static_cast<int64_t>(t) * row_words + first / 32);
        return pair.at[0] | static_cast<uint64_t>(pair.at[1]) << 32;
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
