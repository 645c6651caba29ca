// Indexer scores of some query rows on the device, and the gradients that belong to them: what the CUDA
// kernels of indexer_scores and of the dense KL loss are made of. Rows are worked on chunk by chunk, so that
// what is kept of them is O(T).
#pragma once

#include <algorithm>
#include <cstdint>

#include "framework/attention/scores/indexer_sizes.h"
#include "framework/core/cuda/twin.h"
#include "framework/core/rng.h"  // SIEVE_HOST_DEVICE

namespace sieve::cuda {

// Queries [first, first + rows) of each of the batch rows [batch, batch + batches).
struct RowChunk {
    int64_t batch, batches, first, rows;
};

// What is kept of a chunk: at most `elements` pairs of query and key, or `rows` queries when that is more; of
// the sparse loss, contributions to the gradients of keys.
struct ChunkLimits {
    int64_t elements = int64_t{1} << 22, rows = 256, contribution_bytes = int64_t{32} << 20;
};
SIEVE_CUDA_TWIN ChunkLimits& chunk_limits();  // to be changed by tests

// Calls body(chunk) for chunks of about `rows` rows that cover all rows, in ascending order. Short sequences
// go several to a chunk.
template <class F>
void for_chunks_of(int64_t rows, int64_t batch, int64_t length, F&& body) {
    if (batch == 0 || length == 0) return;
    const int64_t most_batches = 32768;  // a dimension of a grid
    const int64_t together = std::clamp<int64_t>(rows / length, 1, most_batches);
    const int64_t step = std::min(length, std::max<int64_t>(rows, 1));
    for (int64_t b = 0; b < batch; b += together)
        for (int64_t t = 0; t < length; t += step)
            body(RowChunk{b, std::min(together, batch - b), t, std::min(step, length - t)});
}

// For work on [rows, T].
template <class F>
void for_row_chunks(int64_t batch, int64_t length, F&& body) {
    const ChunkLimits limits = chunk_limits();
    const int64_t rows = std::max(limits.elements / std::max<int64_t>(length, 1), limits.rows);
    for_chunks_of((rows + 63) / 64 * 64, batch, length, body);
}

template <class T>
struct IndexerRows {  // all rows
    const T* q;       // [B,T,HI,dI]
    const T* k;       // [B,T,dI]
    const T* w;       // [B,T,HI]
    IndexerSizes sizes;
    T scale;
};

// The signs of the products are kept as bits, so that gradients need not compute them again: bit j % 32 of
// word masks[b, j / 32, t, s] is [x[t,j,s] > 0].
SIEVE_HOST_DEVICE inline int64_t mask_words(int64_t heads) {
    return (heads + 31) / 32;
}

template <class T>
struct ScoreRows {
    IndexerRows<T> indexer;
    RowChunk chunk;
    T* scores;        // [batches, rows, T]; or null
    uint32_t* masks;  // [batches, words, rows, T]; or null
    bool future;      // -inf is written at s > t, where otherwise nothing is
};

template <class T>
struct GradientRows {
    IndexerRows<T> indexer;
    RowChunk chunk;
    const T* g;             // dLoss/dI of the chunk, [batches, rows, T], read at s <= t
    int64_t g_batch;        // elements of g from one batch row to the next
    const uint32_t* masks;  // as score_rows wrote them
    T* dq;                  // [B,T,HI,dI]: the chunk's rows are written
    T* dw;                  // [B,T,HI]: likewise
    T* dk;                  // [B,T,dI]: added to
};

template <class T>
void score_rows(const ScoreRows<T>& a);
template <class T>
void gradient_rows(const GradientRows<T>& a);

}  // namespace sieve::cuda
