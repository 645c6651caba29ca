// The KL loss of a block of queries by tiles over all keys s <= t: for the dense loss, and for selections
// that keep so many keys that computing all scores is cheaper than gathering the chosen ones.
#pragma once

#include <algorithm>

#include "framework/ops/indexer_kl/attention_target.h"
#include "framework/ops/indexer_kl/kl_row.h"

namespace sieve::cpu {

// What the rows of a block read and write beside scores and target.
template <class T>
struct KlRows {
    const int32_t* indices;  // [T,slots] of this batch row, or null: all s <= t
    const int32_t* counts;   // [T], or null
    int64_t slots, row_stride;
    T over_heads, weight;
    T* scores;  // [queries, row_stride]
    T* p;       // [queries, row_stride], H times the target
    T* g;       // [queries, row_stride]
    T* packed;  // [3, slots]: the chosen scores, targets and gradients
    T* loss;    // [T], this batch row's
};

// The row restricted to its chosen keys; g is zero elsewhere.
template <class T>
SIEVE_INLINE T kl_chosen(const KlRows<T>& a, const int32_t* __restrict chosen, int64_t n,
                         const T* __restrict scores, const T* __restrict p, T* __restrict g) {
    T* __restrict packed_scores = a.packed;
    T* __restrict packed_p = a.packed + a.slots;
    T* __restrict packed_g = a.packed + 2 * a.slots;
    for (int64_t i = 0; i < n; ++i) {
        packed_scores[i] = scores[chosen[i]];
        packed_p[i] = p[chosen[i]];
    }
    const T loss = kl_row(packed_scores, packed_p, n, a.over_heads, a.weight, packed_g);
    std::fill(g, g + a.row_stride, T(0));
    for (int64_t i = 0; i < n; ++i) g[chosen[i]] = packed_g[i];
    return loss;
}

template <class T>
SIEVE_INLINE void kl_rows(const KlRows<T>& a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
        const int64_t at = (t - begin) * a.row_stride, n = a.counts ? a.counts[t] : t + 1;
        if (n <= t) {
            a.loss[t] = kl_chosen(a, a.indices + t * a.slots, n, a.scores + at, a.p + at, a.g + at);
        } else {
            a.loss[t] = kl_row(a.scores + at, a.p + at, n, a.over_heads, a.weight, a.g + at);
            std::fill(a.g + at + n, a.g + at + a.row_stride, T(0));
        }
    }
}

template <class T, int width>
SIEVE_INLINE void kl_block(const ScoreBlock<T>& score, const TargetBlock<T>& target, const KlRows<T>& rows,
                           T* z, const ScoreGradients<T>& gradients) {
    const bool wanted = gradients.dq != nullptr;
    score_rows<T, width>(score, gradients.x, wanted, rows.scores, rows.row_stride);
    target_rows<T, width>(target, z, rows.p, rows.row_stride);
    kl_rows(rows, score.begin, score.end);
    if (wanted) score_gradients<T, width>(score, gradients);
}

}  // namespace sieve::cpu
