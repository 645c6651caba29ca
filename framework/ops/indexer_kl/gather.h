// The sparse KL loss of one query by gathering its chosen keys: O(k) work, for sequences much longer than k.
//
// Tile picture: keys lie as zero-padded rows of whole vectors. With vectors of 16, 4 heads by 4 keys (or 1
// head by 16) give 16 vectors of partial sums, which a tree of shuffles adds up into one of 16 dot products.
// Gradients are tile products whose key rows are found through the selected indices.
#pragma once

#include <algorithm>
#include <cstring>

#include "framework/ops/indexer_kl/attention_target.h"
#include "framework/ops/indexer_kl/kl_row.h"

namespace sieve::cpu {

// out[r][i] = q[r] . k[chosen[i]] for R rows of q; `wide` is a multiple of lanes. Writes up to width / R
// numbers more than n in each row.
template <class T, int width, int R>
SIEVE_INLINE void gather_dots(const T* q, const T* k, int64_t wide, const int32_t* chosen, int64_t n, T* out,
                              int64_t stride) {
    constexpr int keys = width / R;
    for (int64_t i = 0; i < n; i += keys) {
        const T* key[keys];
        for (int e = 0; e < keys; ++e) key[e] = k + wide * chosen[std::min(i + e, n - 1)];
        Vector<T, width> sum[R * keys] = {};
        for (int64_t d = 0; d < wide; d += width)
            for (int e = 0; e < keys; ++e) {
                const Vector<T, width> right = load_anywhere<T, width>(key[e] + d);
                for (int r = 0; r < R; ++r)
                    sum[r * keys + e] += load_anywhere<T, width>(q + r * wide + d) * right;
            }
        sum_each<T, width>(sum);
        for (int r = 0; r < R; ++r)
            std::memcpy(out + r * stride + i, reinterpret_cast<const T*>(&sum[0]) + r * keys,
                        keys * sizeof(T));
    }
}

template <class T, int width>
SIEVE_INLINE void gather_dots_of(const T* q, int64_t rows, const T* k, int64_t wide, const int32_t* chosen,
                                 int64_t n, T* out, int64_t stride) {
    constexpr int R = width < 4 ? width : 4;
    int64_t r = 0;
    for (; r + R <= rows; r += R)
        gather_dots<T, width, R>(q + r * wide, k, wide, chosen, n, out + r * stride, stride);
    for (; r < rows; ++r)
        gather_dots<T, width, 1>(q + r * wide, k, wide, chosen, n, out + r * stride, stride);
}

// Everything that the queries of one batch row read and write.
template <class T>
struct GatherRows {
    const T* index_q;      // [T,HI,dI]
    const T* index_w;      // [T,HI]
    const T* index_k;      // [T, wide]: padded rows
    int64_t heads, width;  // HI, dI
    T index_scale;
    const T* q;    // [H,T,dh]
    const T* k;    // [G,T, target wide]: padded rows
    const T* lse;  // [H,T]
    int64_t target_heads, key_heads, target_width, length;
    T scale, weight;
    const int32_t* indices;  // [T,slots]
    const int32_t* counts;   // [T]
    int64_t slots;
    T* loss;  // [T]
    T* dq;    // [T,HI,dI], or null: no gradients wanted
    T* dw;    // [T,HI]
    T* dk;    // [T, wide]: added to
};

// Scratch; n stands for stride: slots rounded up and a vector more.
template <class T>
struct GatherScratch {
    T* x;         // [HI, n]
    T* z;         // [H / G, n]
    T* scores;    // [n]
    T* p;         // [gather_block, n]
    T* g;         // [n]
    T* q;         // [HI, wide]: padded indexer queries
    T* target_q;  // [H / G, target wide]: padded queries of one group of heads
    T* d;         // [HI, wide]
    int64_t stride;
};

// Queries whose targets are computed together, one head after another: the keys of one head stay in the L2
// cache meanwhile, where those of all heads would not.
constexpr int64_t gather_block = 64;

// H p of the chosen keys of queries [begin, end).
template <class T, int width>
SIEVE_INLINE void gather_targets(const GatherRows<T>& a, int64_t begin, int64_t end,
                                 const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.target_width, lanes<T>), group = a.target_heads / a.key_heads;
    for (int64_t key_head = 0; key_head < a.key_heads; ++key_head)
        for (int64_t t = begin; t < end; ++t) {
            const int64_t n = a.counts[t];
            for (int64_t r = 0; r < group; ++r)
                pad_rows(a.q + ((key_head * group + r) * a.length + t) * a.target_width, 1, a.target_width,
                         s.target_q + r * wide);
            gather_dots_of<T, width>(s.target_q, group, a.k + key_head * a.length * wide, wide,
                                     a.indices + t * a.slots, n, s.z, s.stride);
            for (int64_t r = 0; r < group; ++r)
                add_probabilities(s.z + r * s.stride, n, a.scale,
                                  a.lse[(key_head * group + r) * a.length + t], key_head + r > 0,
                                  s.p + (t - begin) * s.stride);
        }
}

template <class T, int width>
SIEVE_INLINE void gather_scores(const GatherRows<T>& a, int64_t t, int64_t n, const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.width, lanes<T>);
    pad_rows(a.index_q + t * a.heads * a.width, a.heads, a.width, s.q);
    gather_dots_of<T, width>(s.q, a.heads, a.index_k, wide, a.indices + t * a.slots, n, s.x, s.stride);
    std::fill(s.scores, s.scores + n, T(0));
    for (int64_t j = 0; j < a.heads; ++j) {
        const T w = a.index_scale * a.index_w[t * a.heads + j];
        const T* __restrict x = s.x + j * s.stride;
        T* __restrict scores = s.scores;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) scores[i] += w * (x[i] < T(0) ? T(0) : x[i]);
    }
}

//   d[j] = sum_i [x>0] g[i] k[i],   dk[i] += sum_j [x>0] g[i] (scale w[j] q[j]),   dq = scale w d,   dw =
//   scale q.d
template <class T, int width>
SIEVE_INLINE void gather_gradients(const GatherRows<T>& a, int64_t t, int64_t n, const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.width, lanes<T>);
    const int32_t* chosen = a.indices + t * a.slots;
    for (int64_t j = 0; j < a.heads; ++j) {
        T* __restrict x = s.x + j * s.stride;
        const T* __restrict g = s.g;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) x[i] = x[i] > T(0) ? g[i] : T(0);
    }
    tile_product<T, width>(TileProduct<T>{.a = s.x,
                                          .a_row = s.stride,
                                          .a_step = 1,
                                          .b = a.index_k,
                                          .ldb = wide,
                                          .c = s.d,
                                          .ldc = wide,
                                          .rows = a.heads,
                                          .cols = wide,
                                          .depth = n,
                                          .add = false,
                                          .b_rows = chosen});
    for (int64_t j = 0; j < a.heads; ++j) {
        const int64_t row = t * a.heads + j;
        const T weight = a.index_scale * a.index_w[row];
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < wide; ++i) {
            dot += s.q[j * wide + i] * s.d[j * wide + i];
            s.q[j * wide + i] *= weight;
        }
        a.dw[row] = a.index_scale * dot;
        for (int64_t i = 0; i < a.width; ++i) a.dq[row * a.width + i] = weight * s.d[j * wide + i];
    }
    tile_product<T, width>(TileProduct<T>{.a = s.x,
                                          .a_row = 1,
                                          .a_step = s.stride,
                                          .b = s.q,
                                          .ldb = wide,
                                          .c = a.dk,
                                          .ldc = wide,
                                          .rows = n,
                                          .cols = wide,
                                          .depth = a.heads,
                                          .add = true,
                                          .c_rows = chosen});
}

template <class T, int width>
SIEVE_INLINE void gather_queries(const GatherRows<T>& a, const GatherScratch<T>& s, int64_t begin,
                                 int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
        if ((t - begin) % gather_block == 0)
            gather_targets<T, width>(a, t, std::min(end, t + gather_block), s);
        const int64_t n = a.counts[t];
        T* p = s.p + (t - begin) % gather_block * s.stride;
        gather_scores<T, width>(a, t, n, s);
        a.loss[t] = kl_row(s.scores, p, n, T(1) / static_cast<T>(a.target_heads), a.weight, s.g);
        if (a.dq) gather_gradients<T, width>(a, t, n, s);
    }
}

}  // namespace sieve::cpu
