#pragma once

#include <cstdint>

#include "framework/attention/scores/query_row.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct BlockSelect {
    QueryRows<T> rows;
    const T* means;    // [batch, key_heads, blocks_each, width]
    int32_t* indices;  // [batch, queries, slots]
    int32_t* counts;   // [batch, queries]
    int64_t* bad_row;  // the lowest row (b queries + i) with a NaN score, or -1; of the CPU only
    int64_t blocks_each, block, length, slots;
};

// What query t reads, but for the choice of its past blocks.
struct BlockRow {
    int64_t past;    // blocks before its own
    int64_t own;     // keys of its own block up to t
    int64_t count;   // keys that it reads
    int64_t chosen;  // past blocks that it needs, at most `past`

    SIEVE_HOST_DEVICE BlockRow(int64_t t, int64_t block, int64_t slots)
        : past(t / block), own(t % block + 1), count(t + 1 < slots ? t + 1 : slots) {
        chosen = count > own ? (count - own + block - 1) / block : 0;
    }

    // The key of slot i; `blocks` holds the chosen ones, ascending.
    SIEVE_HOST_DEVICE int32_t key(const int32_t* blocks, int64_t block, int64_t i) const {
        const int64_t at = chosen * block + own - count + i, place = at / block;
        const int64_t from = place < chosen ? blocks[place] : past;
        return static_cast<int32_t>(from * block + at - (place < chosen ? place : chosen) * block);
    }
};

namespace cpu {
template <class T>
void block_select(const BlockSelect<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void block_select(const BlockSelect<T>& a);
}  // namespace cuda

}  // namespace sieve
