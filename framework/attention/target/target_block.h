// The target distribution of a block of queries: the mean over heads of the main attention's probabilities.
// Shared by the KL losses and by indexer_quality.
#pragma once

#include "framework/attention/scores/indexer_panels.h"
#include "framework/attention/target/attention_target.h"
#include "framework/core/vector_math.h"

namespace sieve::cpu {

// Queries [begin, end) of one batch row.
template <class T>
struct TargetBlock {
    const T* q;         // [H,T,dh], this batch row's
    const T* k_panels;  // [G, panel_stride]: pack_panels of each key head
    const T* lse;       // [H,T]
    int64_t panel_stride, heads, key_heads, width, length;
    T scale;
    int64_t begin, end;
};

// `panels`: all_panels of the B G key matrices.
template <class T>
TargetBlock<T> target_block(const AttentionTarget<T>& a, const Tensor& panels, int64_t length, int64_t b,
                            int64_t begin, int64_t end) {
    return {.q = a.q + b * a.heads * length * a.width,
            .k_panels = panels.data<T>() + b * a.key_heads * panels.dim(1),
            .lse = a.lse + b * a.heads * length,
            .panel_stride = panels.dim(1),
            .heads = a.heads,
            .key_heads = a.key_heads,
            .width = a.width,
            .length = length,
            .scale = static_cast<T>(a.scale),
            .begin = begin,
            .end = end};
}

// p (+)= exp(scale * z - lse), n numbers.
template <class T>
SIEVE_INLINE void add_probabilities(const T* __restrict z, int64_t n, T scale, T lse, bool add,
                                    T* __restrict p) {
    if (add) {
#pragma omp simd
        for (int64_t s = 0; s < n; ++s) p[s] += simd_exp(scale * z[s] - lse);
    } else {
#pragma omp simd
        for (int64_t s = 0; s < n; ++s) p[s] = simd_exp(scale * z[s] - lse);
    }
}

// H p[t][s] for all keys s < end into p [queries, row_stride]; what lies at s > t means nothing. z is one
// tile [queries, panel_width].
template <class T, int width>
SIEVE_INLINE void target_rows(const TargetBlock<T>& a, T* z, T* p, int64_t row_stride) {
    for (int64_t c = 0; c < panel_count<T>(a.end); ++c)
        for (int64_t h = 0; h < a.heads; ++h) {
            const int64_t key_head = h / (a.heads / a.key_heads);
            tile_product<T, width>(
                TileProduct<T>{.a = a.q + (h * a.length + a.begin) * a.width,
                               .a_row = a.width,
                               .a_step = 1,
                               .b = a.k_panels + key_head * a.panel_stride + c * a.width * panel_width<T>,
                               .ldb = panel_width<T>,
                               .c = z,
                               .ldc = panel_width<T>,
                               .rows = a.end - a.begin,
                               .cols = panel_width<T>,
                               .depth = a.width,
                               .start = TileStart::zero});
            for (int64_t t = a.begin; t < a.end; ++t)
                add_probabilities(z + (t - a.begin) * panel_width<T>, panel_width<T>, a.scale,
                                  a.lse[h * a.length + t], h > 0,
                                  p + (t - a.begin) * row_stride + c * panel_width<T>);
        }
}

}  // namespace sieve::cpu
