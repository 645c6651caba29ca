// The backward. Rows below keys.tiled_rows go through dense attention's tiles (tile_tasks.h). The others take
// their pairs of query and key by blocks of 64 keys, whose rows of k, v, dk and dv stay in the L1 cache
// meanwhile; in a block query by query, with the query's rows of q, dout and dq in registers:
//
//   scores   q.k and dout.v of `width` pairs at once, across queries: a vector of partial products each, then
//            a tree of shuffles adds up the lanes of all of them together
//   dq, dk, dv   pair by pair
//
// A task owns the dk and dv of its keys. Each sum adds in the order of the keys (dq) or of the queries (dk,
// dv), so that the bits do not depend on other rows, on T, or on threads.
#include <algorithm>
#include <optional>
#include <vector>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/dense_attention/key_chunks.h"
#include "framework/ops/dense_attention/tile_tasks.h"
#include "framework/ops/dense_attention/vectors.h"
#include "framework/ops/sparse_attention/kernels.h"
#include "framework/ops/sparse_attention/padded_rows.h"
#include "framework/ops/sparse_attention/selected_pairs.h"

namespace sieve::cpu {
namespace {

constexpr int64_t fewest_tasks = 16;  // when tasks are made larger
constexpr int64_t batch_pairs = 256;

// One head and a block of keys. Rows of q and dq are those of the queries of the pairs, `key_stride` long as
// those of k and dk; rows of dout, v and dv are `value_stride` long.
template <class T>
struct PairBlock {
    const SelectedPair* pairs;
    int64_t count;
    const T *q, *k, *dout, *v;
    const T *lse, *delta;
    T *dq, *dk, *dv;
    int64_t key_stride, value_stride;
    T scale;
};

// What the kernels are compiled for: rows of 32 elements, as most models have them, or of any length.
constexpr int any_row = 0;
template <int row>
SIEVE_INLINE int64_t stride_of(int64_t stride) {
    return row == any_row ? stride : row;
}

template <class T, int width, int vectors>
SIEVE_INLINE void add_pair_products(const T* x, const T* y, int64_t stride, const SelectedPair* pairs,
                                    int64_t d, Vector<T, width>* sums) {
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) {
        const T *a = x + query_of(pairs[i]) * stride + d, *b = y + key_of(pairs[i]) * stride + d;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            sums[i] += load<T, width>(a + v * width) * load<T, width>(b + v * width);
    }
}

// dots[i] = (row of x of the query of pair i) . (row of y of its key), for `width` pairs.
template <class T, int width>
SIEVE_INLINE void dots_of_pairs(const T* x, const T* y, int64_t stride, const SelectedPair* pairs, T* dots) {
    Vector<T, width> sums[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) sums[i] = Vector<T, width>{};
    int64_t d = 0;
    for (; d + 4 * width <= stride; d += 4 * width)
        add_pair_products<T, width, 4>(x, y, stride, pairs, d, sums);
    for (; d < stride; d += width) add_pair_products<T, width, 1>(x, y, stride, pairs, d, sums);
    sum_each<T, width>(sums);
    at<T, width>(dots) = sums[0];
}

// The softmax's weights and the scores' gradients of up to batch_pairs pairs from `first` on.
template <class T>
struct PairNumbers {
    alignas(64) T weights[batch_pairs];
    alignas(64) T dscores[batch_pairs];
    alignas(64) T lse[batch_pairs];
    alignas(64) T delta[batch_pairs];
};

template <class T, int width, int row>
SIEVE_INLINE void dots_of_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count,
                                PairNumbers<T>& to) {
    const int64_t key_stride = stride_of<row>(a.key_stride), value_stride = stride_of<row>(a.value_stride);
    int64_t j = 0;
    for (; j + width <= count; j += width) {
        dots_of_pairs<T, width>(a.q, a.k, key_stride, pairs + j, to.weights + j);
        dots_of_pairs<T, width>(a.dout, a.v, value_stride, pairs + j, to.dscores + j);
    }
    if (j == count) return;
    SelectedPair rest[width];
    for (int i = 0; i < width; ++i) rest[i] = pairs[std::min(j + i, count - 1)];
    dots_of_pairs<T, width>(a.q, a.k, key_stride, rest, to.weights + j);
    dots_of_pairs<T, width>(a.dout, a.v, value_stride, rest, to.dscores + j);
}

template <class T>
SIEVE_INLINE void softmax_of_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count,
                                   PairNumbers<T>& n) {
    for (int64_t i = 0; i < count; ++i) {
        n.lse[i] = a.lse[query_of(pairs[i])];
        n.delta[i] = a.delta[query_of(pairs[i])];
    }
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        n.weights[i] = simd_exp(a.scale * n.weights[i] - n.lse[i]);
        n.dscores[i] = n.weights[i] * (n.dscores[i] - n.delta[i]) * a.scale;
    }
}

// What the pairs from `begin` on that have the same query add to `vectors` vectors of the rows of dq and dk
// (`keys`) and of dv (`values`). Returns the end of these pairs.
template <class T, int width, int row, int vectors, bool keys, bool values>
SIEVE_INLINE int64_t add_query(const PairBlock<T>& a, const SelectedPair* pairs, int64_t begin, int64_t count,
                               const PairNumbers<T>& n, int64_t d) {
    const int64_t query = query_of(pairs[begin]);
    const int64_t key_stride = stride_of<row>(a.key_stride), value_stride = stride_of<row>(a.value_stride);
    const T *q_row = a.q + query * key_stride + d, *dout_row = a.dout + query * value_stride + d;
    T* dq_row = a.dq + query * key_stride + d;
    Vector<T, width> q[vectors] = {}, dq[vectors] = {}, dout[vectors] = {};
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
        if (keys) q[v] = load<T, width>(q_row + v * width);
        if (keys) dq[v] = load<T, width>(dq_row + v * width);
        if (values) dout[v] = load<T, width>(dout_row + v * width);
    }
    int64_t i = begin;
    do {
        const int64_t key = key_of(pairs[i]);
        const T* k = a.k + key * key_stride + d;
        T *dk = a.dk + key * key_stride + d, *dv = a.dv + key * value_stride + d;
        const Vector<T, width> weight = Vector<T, width>{} + n.weights[i],
                               dscore = Vector<T, width>{} + n.dscores[i];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            if (keys) dq[v] += dscore * load<T, width>(k + v * width);
            if (keys) at<T, width>(dk + v * width) += dscore * q[v];
            if (values) at<T, width>(dv + v * width) += weight * dout[v];
        }
    } while (++i < count && query_of(pairs[i]) == query);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
        if (keys) at<T, width>(dq_row + v * width) = dq[v];
    return i;
}

struct GatheredBackward {
    template <class T, int width, int row>
    static SIEVE_INLINE void add_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count) {
        constexpr int most = row == any_row || row > 4 * width ? 4 : row / width;
        const int64_t key_stride = stride_of<row>(a.key_stride),
                      value_stride = stride_of<row>(a.value_stride);
        const int64_t both = std::min(key_stride, value_stride) / (most * width) * (most * width);
        PairNumbers<T> n;
        dots_of_batch<T, width, row>(a, pairs, count, n);
        softmax_of_batch(a, pairs, count, n);
        for (int64_t begin = 0, end = 0; begin < count; begin = end) {
            for (int64_t d = 0; d < both; d += most * width)
                end = add_query<T, width, row, most, true, true>(a, pairs, begin, count, n, d);
            for (int64_t d = both; d < key_stride; d += width)
                end = add_query<T, width, row, 1, true, false>(a, pairs, begin, count, n, d);
            for (int64_t d = both; d < value_stride; d += width)
                end = add_query<T, width, row, 1, false, true>(a, pairs, begin, count, n, d);
        }
    }

    template <class T, int width, int row>
    static SIEVE_INLINE void add_all(const PairBlock<T>& block) {
        const PairBlock<T> own = block;  // which no store can change: its members stay in registers
        for (int64_t j = 0; j < own.count; j += batch_pairs)
            add_batch<T, width, row>(own, own.pairs + j, std::min(batch_pairs, own.count - j));
    }

    template <class T, int width>
    static SIEVE_INLINE void run(const PairBlock<T>& block) {
        if (block.key_stride == 32 && block.value_stride == 32)
            add_all<T, width, 32>(block);
        else
            add_all<T, width, any_row>(block);
    }
};

// The rows of one head's queries from a first one on, side by side: those of dout, delta = dout . out, and
// room for dq.
template <class T>
struct QueryRows {
    Tensor dout, delta, dq;

    QueryRows(const AttentionBackward<T>& a, const KeyTask<T>& task, int64_t h, int64_t first_query)
        : dout(Tensor::zeros(Shape{a.size.length - first_query, task.value_dim_padded}, dtype_of<T>)),
          delta(Tensor::empty(Shape{a.size.length - first_query}, dtype_of<T>)),
          dq(Tensor::zeros(Shape{a.size.length - first_query, task.dim_padded}, dtype_of<T>)) {
        const AttentionSizes& z = a.size;
        for (int64_t t = first_query; t < z.length; ++t) {
            const int64_t from = ((task.b * z.length + t) * z.heads + h) * z.value_dim, to = t - first_query;
            std::copy_n(a.dout + from, z.value_dim, dout.data<T>() + to * task.value_dim_padded);
            delta.data<T>()[to] = dot(a.dout + from, a.out + from, z.value_dim);
        }
    }

    void store_dq(const AttentionSizes& z, const KeyTask<T>& task, int64_t h, int64_t first_query) const {
        for (int64_t t = first_query; t < z.length; ++t)
            std::copy_n(dq.data<T>() + (t - first_query) * task.dim_padded, z.dim,
                        task.dq + ((task.b * z.heads + h) * z.length + t) * z.dim);
    }
};

// The queries of one head from first_query on: their dq, and their share of the task's dk and dv.
template <class T>
void gather_back(const AttentionBackward<T>& a, const AttentionRows<T>& rows, const SelectedPairs& pairs,
                 const KeyTask<T>& task, int64_t h, int64_t first_query) {
    const AttentionSizes& z = a.size;
    const int64_t g = h / (z.heads / z.kv_heads),
                  first_kv = (task.b * z.kv_heads + g) * z.length + task.begin;
    const int64_t first_q = (task.b * z.heads + h) * z.length + first_query;
    const QueryRows<T> queries(a, task, h, first_query);
    for (int64_t block = 0; block < pairs.blocks(); ++block) {
        const int64_t key = block * block_keys;
        run_best<GatheredBackward, T>(PairBlock<T>{.pairs = pairs.of(block),
                                                   .count = pairs.count(block),
                                                   .q = rows.q.row(first_q),
                                                   .k = rows.k.row(first_kv + key),
                                                   .dout = queries.dout.template data<T>(),
                                                   .v = rows.v.row(first_kv + key),
                                                   .lse = a.lse + first_q,
                                                   .delta = queries.delta.template data<T>(),
                                                   .dq = queries.dq.template data<T>(),
                                                   .dk = task.dk_of(g) + key * task.dim_padded,
                                                   .dv = task.dv_of(g) + key * task.value_dim_padded,
                                                   .key_stride = task.dim_padded,
                                                   .value_stride = task.value_dim_padded,
                                                   .scale = a.scale});
    }
    queries.store_dq(z, task, h, first_query);
}

// Of every chunk of keys of every batch row; all heads share them.
template <class T>
std::vector<std::optional<SelectedPairs>> pairs_of_chunks(const AttentionBackward<T>& a,
                                                          const KeyChunks& chunks, int64_t tiled) {
    std::vector<std::optional<SelectedPairs>> pairs(a.size.batch * chunks.count);
    parallel_tasks(a.size.batch * chunks.count, [&](int64_t i) {
        const int64_t begin = chunks.begin(i % chunks.count), end = chunks.begin(i % chunks.count + 1);
        pairs[i].emplace(a.keys, i / chunks.count, a.size.length, std::max(tiled, begin), begin, end);
    });
    return pairs;
}

// Heads of a batch row that share the masks of its tiles, as long as enough tasks remain for the threads.
int64_t heads_per_task(const AttentionSizes& z) {
    int64_t heads = 1;
    while (z.kv_heads % (2 * heads) == 0 && z.batch * z.kv_heads >= 2 * heads * fewest_tasks) heads *= 2;
    return heads;
}

}  // namespace

template <class T>
void sparse_attention_backward(const AttentionBackward<T>& a) {
    const AttentionSizes& z = a.size;
    const int64_t tiled = std::min(z.length, a.keys.tiled_rows);
    if (tiled == z.length) {
        run_key_tasks(a, heads_per_task(z),
                      [&](const KeyTask<T>& task) { attend_back_by_tiles(a, task, tiled); });
        return;
    }
    const AttentionRows<T> rows(a);
    const KeyChunks chunks(z);
    const auto pairs = pairs_of_chunks(a, chunks, tiled);
    run_key_tasks(a, 1, [&](const KeyTask<T>& task) {
        if (task.begin < tiled) attend_back_by_tiles(a, task, tiled);
        const SelectedPairs& own = *pairs[task.b * chunks.count + task.begin / chunks.keys];
        const int64_t group = z.heads / z.kv_heads;
        for (int64_t h = task.first * group; h < (task.first + task.heads) * group; ++h)
            gather_back(a, rows, own, task, h, std::max(tiled, task.begin));
    });
}

template void sparse_attention_backward(const AttentionBackward<float>&);
template void sparse_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cpu
