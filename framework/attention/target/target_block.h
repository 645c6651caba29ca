// The target distribution of a block of queries: the mean over heads of the main attention's probabilities.
// Shared by the KL losses and by indexer_quality.
#pragma once

#include <algorithm>
#include <limits>

#include "framework/attention/scores/indexer_panels.h"
#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/target/attention_target.h"
#include "framework/core/vector_math.h"

namespace sieve::cpu {

// Queries [begin, end) of one batch row.
template <class T>
struct TargetBlock {
    const T* q;         // [H,queries,dh], this batch row's: of the queries from `first` on
    const T* k_panels;  // [G, panel_stride]: pack_panels of each key head
    int64_t panel_stride, heads, key_heads, width, first, queries;
    T scale;
    SelectedKeys keys;  // of this batch row, or none: all s <= t
    int64_t begin, end;
};

// `panels`: all_panels of the B G key matrices; `keys` of the whole batch.
template <class T>
TargetBlock<T> target_block(const AttentionTarget<T>& a, const Tensor& panels, const SelectedKeys& keys,
                            int64_t length, int64_t b, int64_t begin, int64_t end) {
    return {.q = a.q + b * a.heads * length * a.width,
            .k_panels = panels.data<T>() + b * a.key_heads * panels.dim(1),
            .panel_stride = panels.dim(1),
            .heads = a.heads,
            .key_heads = a.key_heads,
            .width = a.width,
            .first = 0,
            .queries = length,
            .scale = static_cast<T>(a.scale),
            .keys = keys.from_row(b * length),
            .begin = begin,
            .end = end};
}

// Rows of row_stride elements, which is score_stride of the block's keys.
template <class T>
struct TargetScratch {
    T* z;      // [queries, row_stride]: the products of one head
    T* reads;  // [queries, row_stride]: 1 at the keys that count; null without a selection
};
// Room for blocks of at most `queries` queries that see at most `keys` keys.
template <class T>
class TargetRoom {
  public:
    TargetRoom(int64_t queries, int64_t keys, bool selected)
        : z_(Tensor::empty({queries, score_stride<T>(keys)}, dtype_of<T>)),
          reads_(Tensor::empty({selected ? queries : 0, score_stride<T>(keys)}, dtype_of<T>)) {}
    TargetScratch<T> scratch() const {
        return {z_.template data<T>(), reads_.numel() ? reads_.template data<T>() : nullptr};
    }

  private:
    Tensor z_, reads_;
};

// p (+)= softmax(z) of n numbers, of which `largest` is the largest. z is overwritten.
template <class T>
SIEVE_INLINE void add_softmax(T* __restrict z, int64_t n, T largest, bool add, T* __restrict p) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < n; ++s) {
        z[s] = simd_exp(z[s] - largest);
        sum += z[s];
    }
    const T over_sum = T(1) / sum;
    if (add) {
#pragma omp simd
        for (int64_t s = 0; s < n; ++s) p[s] += z[s] * over_sum;
    } else {
#pragma omp simd
        for (int64_t s = 0; s < n; ++s) p[s] = z[s] * over_sum;
    }
}

// p (+)= softmax(scale * z), n numbers.
template <class T>
SIEVE_INLINE void add_probabilities(T* __restrict z, int64_t n, T scale, bool add, T* __restrict p) {
    T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) {
        z[s] *= scale;
        largest = z[s] > largest ? z[s] : largest;
    }
    add_softmax(z, n, largest, add, p);
}

// The same over those of the n keys that `reads` names; p of the others is 0, whatever z they have.
template <class T>
SIEVE_INLINE void add_probabilities_of_read(T* __restrict z, const T* __restrict reads, int64_t n, T scale,
                                            bool add, T* __restrict p) {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
    T largest = nothing;
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) {
        z[s] = reads[s] > T(0) ? z[s] * scale : nothing;
        largest = z[s] > largest ? z[s] : largest;
    }
    add_softmax(z, n, largest, add, p);
}

// How many of the keys 0..t query t reads. Fewer than all of them are named by a.keys.
template <class T>
SIEVE_INLINE int64_t keys_read(const TargetBlock<T>& a, int64_t t) {
    return a.keys.counts ? std::min<int64_t>(a.keys.counts[t], t + 1) : t + 1;
}

template <class T>
SIEVE_INLINE void mark_read(const TargetBlock<T>& a, T* reads, int64_t row_stride) {
    for (int64_t t = a.begin; t < a.end; ++t) {
        if (keys_read(a, t) > t) continue;
        T* row = reads + (t - a.begin) * row_stride;
        std::fill(row, row + t + 1, T(0));
        for (int64_t i = 0; i < a.keys.counts[t]; ++i) row[a.keys.indices[t * a.keys.slots + i]] = T(1);
    }
}

// z[t][s] = q[t,h] . k[s,g(h)] for all keys s < end.
template <class T, int width>
SIEVE_INLINE void target_products(const TargetBlock<T>& a, int64_t h, T* z, int64_t row_stride) {
    const int64_t key_head = h / (a.heads / a.key_heads);
    for (int64_t c = 0; c < panel_count<T>(a.end); ++c)
        tile_product<T, width>(
            TileProduct<T>{.a = a.q + (h * a.queries + a.begin - a.first) * a.width,
                           .a_row = a.width,
                           .a_step = 1,
                           .b = a.k_panels + key_head * a.panel_stride + c * a.width * panel_width<T>,
                           .ldb = panel_width<T>,
                           .c = z + c * panel_width<T>,
                           .ldc = row_stride,
                           .rows = a.end - a.begin,
                           .cols = panel_width<T>,
                           .depth = a.width,
                           .start = TileStart::zero});
}

// H p[t][s] for all keys s <= t into p [queries, row_stride]; what lies at s > t means nothing.
template <class T, int width>
SIEVE_INLINE void target_rows(const TargetBlock<T>& a, const TargetScratch<T>& scratch, T* p,
                              int64_t row_stride) {
    if (scratch.reads) mark_read(a, scratch.reads, row_stride);
    for (int64_t h = 0; h < a.heads; ++h) {
        target_products<T, width>(a, h, scratch.z, row_stride);
        for (int64_t t = a.begin; t < a.end; ++t) {
            const int64_t at = (t - a.begin) * row_stride;
            if (scratch.reads && keys_read(a, t) <= t)
                add_probabilities_of_read(scratch.z + at, scratch.reads + at, t + 1, a.scale, h > 0, p + at);
            else
                add_probabilities(scratch.z + at, t + 1, a.scale, h > 0, p + at);
        }
    }
}

}  // namespace sieve::cpu
