// One query's score of one key, for selections that look at few keys of each query: here keys are not worth a
// tile. By heads h that share key heads g(h) = h / (H/G):
//
//   linear    sum_h q[h] . k[g(h)]                            without weights
//   lightning scale * sum_h w[h] ReLU(q[h] . k[g(h)])         with them
//
// The bits depend on the query's and the key's numbers alone, so equal keys tie exactly. No score is -0.
#pragma once

#include <cstdint>

#include "framework/core/rng.h"  // SIEVE_HOST_DEVICE

namespace sieve {

template <class T>
struct QueryRow {
    const T* q;  // head h at h * q_head
    int64_t q_head;
    const T* w;        // [H]; or null
    int64_t key_head;  // elements from one head of a key to the next
    int64_t heads, key_heads, width;
    T scale;
};

// Queries [batch, queries], the last of a sequence each, as ops hand them to kernels.
template <class T>
struct QueryRows {
    const T* q;
    int64_t q_batch, q_token, q_head;  // elements from one to the next
    const T* w;                        // [batch, queries, heads]; or null
    int64_t heads, key_heads, width;
    double scale;
    int64_t batch, queries;

    SIEVE_HOST_DEVICE QueryRow<T> row(int64_t b, int64_t i, int64_t key_head) const {
        return {.q = q + b * q_batch + i * q_token,
                .q_head = q_head,
                .w = w ? w + (b * queries + i) * heads : nullptr,
                .key_head = key_head,
                .heads = heads,
                .key_heads = key_heads,
                .width = width,
                .scale = static_cast<T>(scale)};
    }
};

}  // namespace sieve
