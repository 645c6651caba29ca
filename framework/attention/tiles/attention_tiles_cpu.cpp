// Attention by tiles of `lanes` queries x 64 keys. Everything that belongs to a query lies in its lane of a
// vector:
//
//              queries q0 .. q0+lanes            O^T[dv, lanes] = V^T P    running, rescaled per key tile
//   keys s0    S^T[key, lane] = K Q^T            m[lane], l[lane]          running maximum and sum
//     ..       P = exp(S - m)
//   keys s0+64
//
// so that the softmax needs no sum across lanes, only Q and O are transposed (once a tile), and any dh and dv
// fit. The tiles' borders are at fixed positions, padding lanes run along, and what a query does not attend
// to adds an exact 0: hence the bits of a row do not depend on T or on other rows.
#include <algorithm>
#include <cmath>

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/attention/tiles/key_chunks.h"
#include "framework/attention/tiles/tile_tasks.h"
#include "framework/attention/tiles/transposes.h"
#include "framework/blas/tile_product.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"

namespace sieve::cpu {
namespace {

constexpr int64_t key_tile = 64;

template <int lanes>
constexpr uint32_t all_lanes = lanes == 32 ? ~0u : (1u << (lanes % 32)) - 1;

// Sets the lane in the bits of the selected keys in [begin, end).
template <class Index>
SIEVE_INLINE void mark_selected(const Index* selected, const Index* last, int64_t begin, int64_t end,
                                uint32_t lane, uint32_t* bits) {
    for (const Index* s = std::lower_bound(selected, last, begin); s < last && *s < end; ++s)
        bits[*s - begin] |= lane;
}

// bits[s - begin] for the keys s in [begin, end): lane l is set when query q0 + l attends to s. A row that
// selects every key up to its own costs no walk over its indices, and neither do padding lanes.
template <int lanes>
SIEVE_INLINE void attended_bits(const SelectedKeys& keys, const AttentionSizes& z, int64_t b, int64_t q0,
                                int64_t begin, int64_t end, uint32_t* bits) {
    constexpr uint32_t all = all_lanes<lanes>;
    const int64_t first_row = z.token_row(b, q0);
    uint32_t dense = all;
    if (keys.indices || keys.short_indices)
        for (int64_t l = 0; l < lanes && q0 + l < z.length; ++l)
            if (keys.counts[first_row + l] != q0 + l + 1) dense &= ~(1u << l);
    const int64_t diagonal = std::clamp(q0, begin, end);
    std::fill(bits, bits + (diagonal - begin), dense);
    for (int64_t s = diagonal; s < end; ++s) bits[s - begin] = dense & (all << (s - q0));
    for (uint32_t left = all & ~dense; left; left &= left - 1) {
        const int64_t row = first_row + __builtin_ctz(left), first = row * keys.slots,
                      last = first + keys.counts[row];
        const uint32_t lane = left & (~left + 1);
        if (keys.short_indices)
            mark_selected(keys.short_indices + first, keys.short_indices + last, begin, end, lane, bits);
        else
            mark_selected(keys.indices + first, keys.indices + last, begin, end, lane, bits);
    }
}

struct TileBits {
    uint32_t any = 0, every = ~0u;
};

SIEVE_INLINE TileBits summarise(const uint32_t* bits, int64_t keys) {
    TileBits t;
    for (int64_t s = 0; s < keys; ++s) {
        t.any |= bits[s];
        t.every &= bits[s];
    }
    return t;
}

// The queries from q0 on of one head, and the key and value head that they read.
template <class T>
struct Head {
    const T *q, *k, *v;  // [queries from q0 on, dim], [length, dim], [length, value_dim]
    int64_t row;         // of q and lse: that of q0
    int64_t out_offset;  // of out[b,q0,h]
    int64_t out_stride;  // from one query's out to the next
};

template <template <class> class Args, class T>
SIEVE_INLINE Head<T> head_of(const Args<T>& a, int64_t b, int64_t h, int64_t q0) {
    const AttentionSizes& z = a.size;
    const int64_t kv = b * z.kv_heads + h / (z.heads / z.kv_heads);
    const int64_t row = z.head_row(b, h, q0);
    return {.q = a.q + row * z.dim,
            .k = a.k + kv * z.key_rows * z.dim,
            .v = a.v + kv * z.key_rows * z.value_dim,
            .row = row,
            .out_offset = (z.token_row(b, q0) * z.heads + h) * z.value_dim,
            .out_stride = z.heads * z.value_dim};
}

// Scratch of one forward tile.
template <class T>
struct ForwardTile {
    T* q;                       // [dim, lanes], times scale
    T* scores;                  // [key_tile, lanes]
    T* out;                     // [value_dim, lanes]
    T *maximum, *sum, *factor;  // [lanes]

    static int64_t elements(const AttentionSizes& z, int64_t lanes) {
        return (z.dim + key_tile + z.value_dim + 3) * lanes;
    }
    SIEVE_INLINE ForwardTile(T* scratch, const AttentionSizes& z, int64_t lanes)
        : q(scratch),
          scores(q + z.dim * lanes),
          out(scores + key_tile * lanes),
          maximum(out + z.value_dim * lanes),
          sum(maximum + lanes),
          factor(sum + lanes) {}
};

template <class T, int width>
SIEVE_INLINE void mask_scores(T* scores, const uint32_t* bits, int64_t keys, T otherwise) {
    for (int64_t s = 0; s < keys; ++s)
        for (int v = 0; v < 2; ++v)
            keep<T, width>(bits[s] >> (v * width), at<T, width>(scores + (2 * s + v) * width), otherwise);
}

// scores -> exp(scores - maximum), with the maximum and the sum brought up to date and factor = exp(old
// maximum - new).
template <class T, int width>
SIEVE_INLINE void softmax_tile(const ForwardTile<T>& t, const uint32_t* bits, int64_t keys, bool masked) {
    using V = Vector<T, width>;
    constexpr int lanes = 2 * width;
    if (masked) mask_scores<T, width>(t.scores, bits, keys, no_score<T>);
    V high[2] = {load<T, width>(t.maximum), load<T, width>(t.maximum + width)};
    for (int64_t s = 0; s < keys; ++s)
        for (int v = 0; v < 2; ++v)
            max_into<T, width>(high[v], load<T, width>(t.scores + s * lanes + v * width));
    T highest[lanes];
    for (int v = 0; v < 2; ++v)
        for (int l = 0; l < width; ++l) highest[v * width + l] = high[v][l];
    for (int l = 0; l < lanes; ++l) {
        t.factor[l] = simd_exp(t.maximum[l] - highest[l]);
        t.maximum[l] = highest[l];
    }
    for (int64_t s = 0; s < keys; ++s) {
        T* __restrict row = t.scores + s * lanes;
#pragma omp simd
        for (int l = 0; l < lanes; ++l) row[l] = simd_exp(row[l] - highest[l]);
    }
    if (masked) mask_scores<T, width>(t.scores, bits, keys, T(0));
    for (int v = 0; v < 2; ++v) {
        V sum = load<T, width>(t.sum + v * width) * load<T, width>(t.factor + v * width);
        for (int64_t s = 0; s < keys; ++s) sum += load<T, width>(t.scores + s * lanes + v * width);
        at<T, width>(t.sum + v * width) = sum;
    }
}

// out and lse of the queries [q0, q0 + lanes) of one head; bits[s] for every key s < keys.
template <class T, int width>
SIEVE_INLINE void forward_tile(const AttentionForward<T>& a, const Head<T>& head, int64_t q0, int64_t keys,
                               const uint32_t* bits, const ForwardTile<T>& t) {
    constexpr int lanes = 2 * width;
    const AttentionSizes& z = a.size;
    const int64_t queries = std::min<int64_t>(lanes, z.length - q0);
    transpose_into<T, width>(head.q, z.dim, queries, z.dim, a.scale, t.q, lanes);
    std::fill(t.out, t.out + z.value_dim * lanes, T(0));
    std::fill(t.maximum, t.maximum + lanes, no_score<T>);
    std::fill(t.sum, t.sum + lanes, T(0));
    for (int64_t s0 = 0; s0 < keys; s0 += key_tile) {
        const int64_t n = std::min(key_tile, keys - s0);
        const TileBits summary = summarise(bits + s0, n);
        if (!summary.any) continue;
        tile_product<T, width>({.a = head.k + s0 * z.dim,
                                .a_row = z.dim,
                                .a_step = 1,
                                .b = t.q,
                                .ldb = lanes,
                                .c = t.scores,
                                .ldc = lanes,
                                .rows = n,
                                .cols = lanes,
                                .depth = z.dim});
        softmax_tile<T, width>(t, bits + s0, n, summary.every != all_lanes<lanes>);
        tile_product<T, width>({.a = head.v + s0 * z.value_dim,
                                .a_row = 1,
                                .a_step = z.value_dim,
                                .b = t.scores,
                                .ldb = lanes,
                                .c = t.out,
                                .ldc = lanes,
                                .rows = z.value_dim,
                                .cols = lanes,
                                .depth = n,
                                .start = TileStart::scale_add,
                                .factor = t.factor});
    }
    for (int64_t l = 0; l < queries; ++l) {
        const LogSumExp<T> lse = log_sum_exp(t.maximum[l], t.sum[l]);
        a.lse[head.row + l] = lse.value;
        a.lse_rest[head.row + l] = lse.rest;
    }
    for (int l = 0; l < lanes; ++l) t.factor[l] = t.sum[l] == 0 ? T(0) : T(1) / t.sum[l];
    transpose_back<T, width>(t.out, lanes, t.factor, queries, z.value_dim, a.out + head.out_offset,
                             head.out_stride);
}

// Scratch of one query of some heads that share their keys and values.
template <class T>
struct LoneQuery {
    T* keys;           // [dim, key_tile]: a tile of k, transposed
    T* q;              // [heads, dim], times scale
    T* scores;         // [heads, key_tile]
    T* out;            // [heads, value_dim]
    T *maximum, *sum;  // [heads]

    static int64_t elements(const AttentionSizes& z, int64_t heads) {
        return key_tile * z.dim + heads * (z.dim + key_tile + z.value_dim + 2);
    }
    SIEVE_INLINE LoneQuery(T* scratch, const AttentionSizes& z, int64_t heads)
        : keys(scratch),
          q(keys + key_tile * z.dim),
          scores(q + heads * z.dim),
          out(scores + heads * key_tile),
          maximum(out + heads * z.value_dim),
          sum(maximum + heads) {}
};

// What softmax_tile does for one lane, and out times its factor: the tile's values are then added to that.
template <class T, int width>
SIEVE_INLINE void softmax_row(T* __restrict scores, int64_t keys, T& maximum, T& sum, T* __restrict out,
                              int64_t value_dim) {
    Vector<T, width> high = Vector<T, width>{} + maximum;
    int64_t s = 0;
    for (; s + width <= keys; s += width) max_into<T, width>(high, load_anywhere<T, width>(scores + s));
    T highest = maximum;
    for (int l = 0; l < width; ++l) highest = highest > high[l] ? highest : high[l];
    for (; s < keys; ++s) highest = highest > scores[s] ? highest : scores[s];
    const T factor = simd_exp(maximum - highest);
    maximum = highest;
#pragma omp simd
    for (int64_t i = 0; i < keys; ++i) scores[i] = simd_exp(scores[i] - highest);
    sum *= factor;
    for (int64_t i = 0; i < keys; ++i) sum += scores[i];
#pragma omp simd
    for (int64_t j = 0; j < value_dim; ++j) out[j] *= factor;
}

// The query `t` of the heads [first_head, first_head + heads) over all keys up to its own. The other lanes of a tile
// would be padding, so here keys, and then dims of the value, lie in the lanes; each score, sum and output is the
// same chain of operations as in a tile.
struct LoneQueries {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, int64_t b, int64_t first_head, int64_t heads,
                                 int64_t t, T* scratch) {
        const AttentionSizes& z = a.size;
        const LoneQuery<T> lone(scratch, z, heads);
        const Head<T> head = head_of(a, b, first_head, t);
        for (int64_t h = 0; h < heads; ++h) {
            const T* q = head_of(a, b, first_head + h, t).q;
            for (int64_t j = 0; j < z.dim; ++j) lone.q[h * z.dim + j] = q[j] * a.scale;
        }
        std::fill(lone.out, lone.out + heads * z.value_dim, T(0));
        std::fill(lone.maximum, lone.maximum + heads, no_score<T>);
        std::fill(lone.sum, lone.sum + heads, T(0));
        for (int64_t s0 = 0; s0 <= t; s0 += key_tile) {
            const int64_t n = std::min(key_tile, t + 1 - s0);
            transpose_into<T, width>(head.k + s0 * z.dim, z.dim, n, z.dim, T(1), lone.keys, key_tile);
            tile_product<T, width>({.a = lone.q,
                                    .a_row = z.dim,
                                    .a_step = 1,
                                    .b = lone.keys,
                                    .ldb = key_tile,
                                    .c = lone.scores,
                                    .ldc = key_tile,
                                    .rows = heads,
                                    .cols = key_tile,
                                    .depth = z.dim});
            for (int64_t h = 0; h < heads; ++h)
                softmax_row<T, width>(lone.scores + h * key_tile, n, lone.maximum[h], lone.sum[h],
                                      lone.out + h * z.value_dim, z.value_dim);
            tile_product<T, width>({.a = lone.scores,
                                    .a_row = key_tile,
                                    .a_step = 1,
                                    .b = head.v + s0 * z.value_dim,
                                    .ldb = z.value_dim,
                                    .c = lone.out,
                                    .ldc = z.value_dim,
                                    .rows = heads,
                                    .cols = z.value_dim,
                                    .depth = n,
                                    .start = TileStart::add});
        }
        for (int64_t h = 0; h < heads; ++h) {
            const Head<T> of = head_of(a, b, first_head + h, t);
            const LogSumExp<T> lse = log_sum_exp(lone.maximum[h], lone.sum[h]);
            a.lse[of.row] = lse.value;
            a.lse_rest[of.row] = lse.rest;
            const T factor = lone.sum[h] == 0 ? T(0) : T(1) / lone.sum[h];
            for (int64_t j = 0; j < z.value_dim; ++j)
                a.out[of.out_offset + j] = lone.out[h * z.value_dim + j] * factor;
        }
    }
};

constexpr int64_t queries_per_task = 256;

// Heads [first_head, first_head + heads) of the queries [begin, end): they share the bits of a selection.
struct ForwardTiles {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, int64_t b, int64_t first_head, int64_t heads,
                                 int64_t begin, int64_t end, T* scratch, uint32_t* bits) {
        constexpr int lanes = 2 * width;
        const ForwardTile<T> tile(scratch, a.size, lanes);
        for (int64_t q0 = begin; q0 < end; q0 += lanes) {
            const int64_t keys = std::min(q0 + lanes, a.size.length);
            attended_bits<lanes>(a.keys, a.size, b, q0, 0, keys, bits);
            for (int64_t h = first_head; h < first_head + heads; ++h)
                forward_tile<T, width>(a, head_of(a, b, h, q0), q0, keys, bits, tile);
        }
    }
};

// Scratch of one backward tile.
template <class T>
struct BackwardTile {
    T* q;                            // [dim, lanes], times scale
    T* dout;                         // [value_dim, lanes]
    T* q_rows;                       // [lanes, dim padded], times scale
    T* dout_rows;                    // [lanes, value_dim padded]
    T* weights;                      // [key_tile, lanes]: a
    T* dscores;                      // [key_tile, lanes]: dz
    T* dq;                           // [dim, lanes]
    T *lse, *rest, *delta, *factor;  // [lanes]
    int64_t dim_padded, value_dim_padded;

    static int64_t elements(const AttentionSizes& z, int64_t lanes, int64_t width) {
        return (2 * z.dim + z.value_dim + round_up(z.dim, width) + round_up(z.value_dim, width) +
                2 * key_tile + 4) *
               lanes;
    }
    SIEVE_INLINE BackwardTile(T* scratch, const AttentionSizes& z, int64_t lanes, int64_t width)
        : dim_padded(round_up(z.dim, width)), value_dim_padded(round_up(z.value_dim, width)) {
        q = scratch;
        dout = q + z.dim * lanes;
        q_rows = dout + z.value_dim * lanes;
        dout_rows = q_rows + lanes * dim_padded;
        weights = dout_rows + lanes * value_dim_padded;
        dscores = weights + key_tile * lanes;
        dq = dscores + key_tile * lanes;
        lse = dq + z.dim * lanes;
        rest = lse + lanes;
        delta = rest + lanes;
        factor = delta + lanes;
    }
};

// to[l, 0..padded) = factor * from[l, 0..columns), zeros beyond `columns` and in rows beyond `rows`.
template <class T>
SIEVE_INLINE void copy_rows(const T* from, int64_t ldf, int64_t rows, int64_t columns, T factor, T* to,
                            int64_t all_rows, int64_t padded) {
    for (int64_t l = 0; l < all_rows; ++l) {
        T* __restrict row = to + l * padded;
        const int64_t n = l < rows ? columns : 0;
        for (int64_t j = 0; j < n; ++j) row[j] = factor * from[l * ldf + j];
        for (int64_t j = n; j < padded; ++j) row[j] = 0;
    }
}

template <class T, int width>
SIEVE_INLINE void load_queries(const AttentionBackward<T>& a, const Head<T>& head, int64_t q0,
                               const BackwardTile<T>& t) {
    constexpr int lanes = 2 * width;
    const AttentionSizes& z = a.size;
    const int64_t queries = std::min<int64_t>(lanes, z.length - q0);
    const T* dout = a.dout + head.out_offset;
    const T* out = a.out + head.out_offset;
    transpose_into<T, width>(head.q, z.dim, queries, z.dim, a.scale, t.q, lanes);
    transpose_into<T, width>(dout, head.out_stride, queries, z.value_dim, T(1), t.dout, lanes);
    copy_rows(head.q, z.dim, queries, z.dim, a.scale, t.q_rows, lanes, t.dim_padded);
    copy_rows(dout, head.out_stride, queries, z.value_dim, T(1), t.dout_rows, lanes, t.value_dim_padded);
    for (int64_t l = 0; l < lanes; ++l) {
        t.lse[l] = l < queries ? a.lse[head.row + l] : T(0);
        t.rest[l] = l < queries ? a.lse_rest[head.row + l] : T(0);
        t.delta[l] =
            l < queries ? dot(dout + l * head.out_stride, out + l * head.out_stride, z.value_dim) : T(0);
    }
    std::fill(t.dq, t.dq + z.dim * lanes, T(0));
}

// weights: scores -> a = exp(scores - lse); dscores: dout.v -> dz = a (dout.v - delta).
template <class T, int width>
SIEVE_INLINE void softmax_backward_tile(const BackwardTile<T>& t, const uint32_t* bits, int64_t keys,
                                        bool masked) {
    constexpr int lanes = 2 * width;
    for (int64_t s = 0; s < keys; ++s) {
        T* __restrict row = t.weights + s * lanes;
        const T* __restrict lse = t.lse;
        const T* __restrict rest = t.rest;
#pragma omp simd
        for (int l = 0; l < lanes; ++l) row[l] = simd_exp((row[l] - lse[l]) - rest[l]);
    }
    if (masked) mask_scores<T, width>(t.weights, bits, keys, T(0));
    for (int64_t s = 0; s < keys; ++s) {
        const T* __restrict row = t.weights + s * lanes;
        const T* __restrict delta = t.delta;
        T* __restrict drow = t.dscores + s * lanes;
#pragma omp simd
        for (int l = 0; l < lanes; ++l) drow[l] = row[l] * (drow[l] - delta[l]);
    }
}

// Adds what the queries [q0, q0 + lanes) of one head send to the keys [begin, end): dk and dv are those of
// key `begin`, padded rows; dq, of row q0, is written. bits[s - begin].
template <class T, int width>
SIEVE_INLINE void backward_tile(const AttentionBackward<T>& a, const Head<T>& head, int64_t q0, int64_t begin,
                                int64_t end, const uint32_t* bits, const BackwardTile<T>& t, T* dk, T* dv,
                                T* dq) {
    constexpr int lanes = 2 * width;
    const AttentionSizes& z = a.size;
    load_queries<T, width>(a, head, q0, t);
    for (int64_t s0 = begin; s0 < end; s0 += key_tile) {
        const int64_t n = std::min(key_tile, end - s0);
        const TileBits summary = summarise(bits + (s0 - begin), n);
        if (!summary.any) continue;
        const T* k = head.k + s0 * z.dim;
        tile_product<T, width>({.a = k,
                                .a_row = z.dim,
                                .a_step = 1,
                                .b = t.q,
                                .ldb = lanes,
                                .c = t.weights,
                                .ldc = lanes,
                                .rows = n,
                                .cols = lanes,
                                .depth = z.dim});
        tile_product<T, width>({.a = head.v + s0 * z.value_dim,
                                .a_row = z.value_dim,
                                .a_step = 1,
                                .b = t.dout,
                                .ldb = lanes,
                                .c = t.dscores,
                                .ldc = lanes,
                                .rows = n,
                                .cols = lanes,
                                .depth = z.value_dim});
        softmax_backward_tile<T, width>(t, bits + (s0 - begin), n, summary.every != all_lanes<lanes>);
        tile_product<T, width>({.a = k,
                                .a_row = 1,
                                .a_step = z.dim,
                                .b = t.dscores,
                                .ldb = lanes,
                                .c = t.dq,
                                .ldc = lanes,
                                .rows = z.dim,
                                .cols = lanes,
                                .depth = n,
                                .start = TileStart::add});
        tile_product<T, width>({.a = t.dscores,
                                .a_row = lanes,
                                .a_step = 1,
                                .b = t.q_rows,
                                .ldb = t.dim_padded,
                                .c = dk + (s0 - begin) * t.dim_padded,
                                .ldc = t.dim_padded,
                                .rows = n,
                                .cols = t.dim_padded,
                                .depth = lanes,
                                .start = TileStart::add});
        tile_product<T, width>({.a = t.weights,
                                .a_row = lanes,
                                .a_step = 1,
                                .b = t.dout_rows,
                                .ldb = t.value_dim_padded,
                                .c = dv + (s0 - begin) * t.value_dim_padded,
                                .ldc = t.value_dim_padded,
                                .rows = n,
                                .cols = t.value_dim_padded,
                                .depth = lanes,
                                .start = TileStart::add});
    }
    std::fill(t.factor, t.factor + lanes, a.scale);
    transpose_back<T, width>(t.dq, lanes, t.factor, std::min<int64_t>(lanes, z.length - q0), z.dim, dq,
                             z.dim);
}

struct BackwardTiles {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionBackward<T>& a, const KeyTask<T>& task, int64_t query_end,
                                 T* scratch, uint32_t* bits) {
        constexpr int lanes = 2 * width;
        const AttentionSizes& z = a.size;
        const BackwardTile<T> tile(scratch, z, lanes, width);
        const int64_t group = z.heads / z.kv_heads;
        for (int64_t q0 = task.begin; q0 < query_end; q0 += lanes) {
            const int64_t last = std::min(q0 + lanes, task.end);
            attended_bits<lanes>(a.keys, z, task.b, q0, task.begin, last, bits);
            for (int64_t h = task.first * group; h < (task.first + task.heads) * group; ++h) {
                const Head<T> head = head_of(a, task.b, h, q0);
                backward_tile<T, width>(a, head, q0, task.begin, last, bits, tile, task.dk_of(h / group),
                                        task.dv_of(h / group), task.dq + head.row * z.dim);
            }
        }
    }
};

}  // namespace

template <class T>
void attend_by_tiles(const AttentionForward<T>& a, int64_t b, int64_t first_head, int64_t heads,
                     int64_t begin, int64_t end) {
    const Tensor scratch =
        Tensor::empty(Shape{ForwardTile<T>::elements(a.size, 2 * widest<T>())}, dtype_of<T>);
    const Tensor bits = Tensor::empty(Shape{a.size.length}, DType::int32);
    run_best<ForwardTiles, T>(a, b, first_head, heads, begin, end, scratch.data<T>(),
                              static_cast<uint32_t*>(bits.raw()));
}

template <class T>
void attend_back_by_tiles(const AttentionBackward<T>& a, const KeyTask<T>& task, int64_t query_end) {
    const int64_t elements = BackwardTile<T>::elements(a.size, 2 * widest<T>(), widest<T>());
    const Tensor scratch = Tensor::empty(Shape{elements}, dtype_of<T>);
    const Tensor bits = Tensor::empty(Shape{task.end - task.begin}, DType::int32);
    run_best<BackwardTiles, T>(a, task, query_end, scratch.data<T>(), static_cast<uint32_t*>(bits.raw()));
}

namespace {

// The heads that share keys and values are divided among the threads that there are: each part transposes the keys.
template <class T>
void attend_with_last_query(const AttentionForward<T>& a) {
    const AttentionSizes& z = a.size;
    const int64_t group = z.heads / z.kv_heads, groups = z.batch * z.kv_heads;
    const int64_t parts = std::min(group, (thread_count() + groups - 1) / groups);
    const int64_t each = (group + parts - 1) / parts;
    run_tasks(groups * parts, attention_work(z), [&](int64_t task) {
        const int64_t first = task % parts * each, heads = std::min(each, group - first);
        if (heads <= 0) return;
        const int64_t row = task / parts, b = row / z.kv_heads, kv = row % z.kv_heads;
        const Tensor scratch = Tensor::empty(Shape{LoneQuery<T>::elements(z, heads)}, dtype_of<T>);
        run_best<LoneQueries, T>(a, b, kv * group + first, heads, z.first_query, scratch.data<T>());
    });
}

}  // namespace

template <class T>
void dense_attention_forward(const AttentionForward<T>& a) {
    const AttentionSizes& z = a.size;
    // A product's columns are whole vectors.
    if (z.queries() == 1 && z.value_dim % widest<T>() == 0) return attend_with_last_query(a);
    const int64_t parts = (z.queries() + queries_per_task - 1) / queries_per_task;
    run_tasks(z.batch * z.heads * parts, attention_work(z), [&](int64_t task) {
        const int64_t part = parts - 1 - task % parts, row = task / parts;  // the longest rows first
        const int64_t begin = z.first_query + part * queries_per_task;
        attend_by_tiles(a, row / z.heads, row % z.heads, 1, begin,
                        std::min(z.length, begin + queries_per_task));
    });
}

template <class T>
void dense_attention_backward(const AttentionBackward<T>& a) {
    run_key_tasks(a, 1, [&](const KeyTask<T>& task) { attend_back_by_tiles(a, task, a.size.length); });
}

template void attend_by_tiles(const AttentionForward<float>&, int64_t, int64_t, int64_t, int64_t, int64_t);
template void attend_by_tiles(const AttentionForward<double>&, int64_t, int64_t, int64_t, int64_t, int64_t);
template void attend_back_by_tiles(const AttentionBackward<float>&, const KeyTask<float>&, int64_t);
template void attend_back_by_tiles(const AttentionBackward<double>&, const KeyTask<double>&, int64_t);
template void dense_attention_forward(const AttentionForward<float>&);
template void dense_attention_forward(const AttentionForward<double>&);
template void dense_attention_backward(const AttentionBackward<float>&);
template void dense_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cpu
