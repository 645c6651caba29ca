// The backward. Rows below tiled_rows go through dense attention's tiles (tile_tasks.h). The others take
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
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "framework/attention/gather/gather_kernels.h"
#include "framework/attention/gather/padded_rows.h"
#include "framework/attention/gather/selected_pairs.h"
#include "framework/attention/tiles/attention_vectors.h"
#include "framework/attention/tiles/key_chunks.h"
#include "framework/attention/tiles/tile_tasks.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"

namespace sieve::cpu {
namespace {

constexpr int64_t fewest_tasks = 16;  // when tasks are made larger
constexpr int64_t batch_pairs = 128;

// One head and a block of keys. Rows of q and dq are those of the queries of the pairs, `key_stride` long as
// those of k and dk; rows of dout, v and dv are `value_stride` long. lse_delta: the lse and the dout . out of
// each query, side by side.
template <class T>
struct PairBlock {
    const SelectedPair* pairs;
    int64_t count;
    const T *q, *k, *dout, *v;
    const T* lse_delta;
    T *dq, *dk, *dv;
    int64_t key_stride, value_stride;
    T scale;
};

// What the kernels are compiled for: rows of 32 elements, as most models have them, or of any length.
constexpr int usual_row = 32, any_row = 0;
template <int row>
SIEVE_INLINE int64_t stride_of(int64_t stride) {
    return row == any_row ? stride : row;
}
// How many vectors of a row are taken at once.
template <int row, int width>
constexpr int most_vectors = row == any_row || row > 4 * width ? 4 : row / width;

// Where the rows of a batch of pairs begin, in elements from the first query's row and from the block's first
// key's. Multiplied out once: there are seven pointers to each pair.
struct PairOffsets {
    alignas(64) int64_t query[batch_pairs];
    alignas(64) int64_t key[batch_pairs];

    // From `count` to `padded`: those of rows that exist.
    SIEVE_INLINE void set(const SelectedPair* pairs, int64_t count, int64_t padded, int64_t stride) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
            query[i] = query_of(pairs[i]) * stride;
            key[i] = key_of(pairs[i]) * stride;
        }
        for (int64_t i = count; i < padded; ++i) query[i] = key[i] = 0;
    }
};

template <class T, int width, int vectors>
SIEVE_INLINE void add_pair_products(const T* x, const T* y, const int64_t* of_x, const int64_t* of_y,
                                    Vector<T, width>* sums) {
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) {
        const T *a = x + of_x[i], *b = y + of_y[i];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            sums[i] += load<T, width>(a + v * width) * load<T, width>(b + v * width);
    }
}

// dots[i] = (row of x of the query of pair i) . (row of y of its key), for `width` pairs from `first` on.
template <class T, int width, int row>
SIEVE_INLINE void dots_of_pairs(const T* x, const T* y, int64_t stride, const PairOffsets& offsets,
                                int64_t first, T* dots) {
    constexpr int most = most_vectors<row, width>;
    Vector<T, width> sums[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) sums[i] = Vector<T, width>{};
    const int64_t *of_x = offsets.query + first, *of_y = offsets.key + first;
    int64_t d = 0;
    for (; d + most * width <= stride; d += most * width)
        add_pair_products<T, width, most>(x + d, y + d, of_x, of_y, sums);
    for (; d < stride; d += width) add_pair_products<T, width, 1>(x + d, y + d, of_x, of_y, sums);
    sum_each<T, width>(sums);
    at<T, width>(dots + first) = sums[0];
}

// Of a batch of pairs: the softmax's weights, the scores' gradients, and what they are computed from.
template <class T, int row>
struct PairBatch {
    alignas(64) T weights[batch_pairs];
    alignas(64) T dscores[batch_pairs];
    alignas(64) T lse_delta[2 * batch_pairs];
    PairOffsets of_keys, of_other_values;

    // Of rows of dout, v and dv.
    SIEVE_INLINE const PairOffsets& of_values() const { return row == any_row ? of_other_values : of_keys; }
};

template <class T, int width, int row>
SIEVE_INLINE void dots_of_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count,
                                PairBatch<T, row>& to) {
    const int64_t key_stride = stride_of<row>(a.key_stride), value_stride = stride_of<row>(a.value_stride);
    const int64_t padded = round_up(count, width);
    to.of_keys.set(pairs, count, padded, key_stride);
    if (row == any_row) to.of_other_values.set(pairs, count, padded, value_stride);
    for (int64_t j = 0; j < padded; j += width) {
        dots_of_pairs<T, width, row>(a.q, a.k, key_stride, to.of_keys, j, to.weights);
        dots_of_pairs<T, width, row>(a.dout, a.v, value_stride, to.of_values(), j, to.dscores);
    }
}

template <class T, int row>
SIEVE_INLINE void softmax_of_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count,
                                   PairBatch<T, row>& n) {
    // Copied in pieces of two numbers, which GCC does not turn into a vector loop that takes vectors apart.
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(n.lse_delta + 2 * i, a.lse_delta + 2 * query_of(pairs[i]), 2 * sizeof(T));
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        n.weights[i] = simd_exp(a.scale * n.weights[i] - n.lse_delta[2 * i]);
        n.dscores[i] = n.weights[i] * (n.dscores[i] - n.lse_delta[2 * i + 1]) * a.scale;
    }
}

// What the pairs from `begin` on that have the same query add to `vectors` vectors of the rows of dq and dk
// (`keys`) and of dv (`values`). Returns the end of these pairs.
template <class T, int width, int row, int vectors, bool keys, bool values>
SIEVE_INLINE int64_t add_query(const PairBlock<T>& a, int64_t begin, int64_t count,
                               const PairBatch<T, row>& n, int64_t d) {
    const PairOffsets &of_keys = n.of_keys, &of_values = n.of_values();
    const int64_t query = of_keys.query[begin];
    const T *q_row = a.q + query + d, *dout_row = a.dout + of_values.query[begin] + d;
    T* dq_row = a.dq + query + d;
    Vector<T, width> q[vectors] = {}, dq[vectors] = {}, dout[vectors] = {};
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
        if (keys) q[v] = load<T, width>(q_row + v * width);
        if (keys) dq[v] = load<T, width>(dq_row + v * width);
        if (values) dout[v] = load<T, width>(dout_row + v * width);
    }
    int64_t i = begin;
    do {
        const T* k = a.k + of_keys.key[i] + d;
        T *dk = a.dk + of_keys.key[i] + d, *dv = a.dv + of_values.key[i] + d;
        const T weight = n.weights[i], dscore = n.dscores[i];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            if (keys) dq[v] += dscore * load<T, width>(k + v * width);
            if (keys) at<T, width>(dk + v * width) += dscore * q[v];
            if (values) at<T, width>(dv + v * width) += weight * dout[v];
        }
    } while (++i < count && of_keys.query[i] == query);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
        if (keys) at<T, width>(dq_row + v * width) = dq[v];
    return i;
}

struct GatheredBackward {
    template <class T, int width, int row>
    static SIEVE_INLINE void add_batch(const PairBlock<T>& a, const SelectedPair* pairs, int64_t count) {
        constexpr int most = most_vectors<row, width>;
        const int64_t key_stride = stride_of<row>(a.key_stride),
                      value_stride = stride_of<row>(a.value_stride);
        const int64_t both = std::min(key_stride, value_stride) / (most * width) * (most * width);
        PairBatch<T, row> n;
        dots_of_batch<T, width, row>(a, pairs, count, n);
        softmax_of_batch(a, pairs, count, n);
        for (int64_t begin = 0, end = 0; begin < count; begin = end) {
            for (int64_t d = 0; d < both; d += most * width)
                end = add_query<T, width, row, most, true, true>(a, begin, count, n, d);
            for (int64_t d = both; d < key_stride; d += width)
                end = add_query<T, width, row, 1, true, false>(a, begin, count, n, d);
            for (int64_t d = both; d < value_stride; d += width)
                end = add_query<T, width, row, 1, false, true>(a, begin, count, n, d);
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
        if (block.key_stride == usual_row && block.value_stride == usual_row)
            add_all<T, width, usual_row>(block);
        else
            add_all<T, width, any_row>(block);
    }
};

// The rows of one head's queries from a first one on: those of dout, lse and dout . out, and room for dq. A
// weight is exp(z - lse) e^-rest; its second factor is in dout and dout . out here, which weights are
// multiplied with.
template <class T>
struct QueryRows {
    Tensor dout, lse_delta, dq;

    QueryRows(const AttentionBackward<T>& a, const KeyTask<T>& task, int64_t h, int64_t first_query)
        : dout(Tensor::zeros(Shape{a.size.length - first_query, task.value_dim_padded}, dtype_of<T>)),
          lse_delta(Tensor::empty(Shape{a.size.length - first_query, 2}, dtype_of<T>)),
          dq(Tensor::zeros(Shape{a.size.length - first_query, task.dim_padded}, dtype_of<T>)) {
        const AttentionSizes& z = a.size;
        for (int64_t t = first_query; t < z.length; ++t) {
            const int64_t from = ((task.b * z.length + t) * z.heads + h) * z.value_dim, to = t - first_query;
            const int64_t row = (task.b * z.heads + h) * z.length + t;
            const T factor = std::exp(-a.lse_rest[row]);
            T* own_dout = dout.data<T>() + to * task.value_dim_padded;
            for (int64_t j = 0; j < z.value_dim; ++j) own_dout[j] = factor * a.dout[from + j];
            lse_delta.data<T>()[2 * to] = a.lse[row];
            lse_delta.data<T>()[2 * to + 1] = dot(own_dout, a.out + from, z.value_dim);
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
                                                   .lse_delta = queries.lse_delta.template data<T>(),
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
    const int64_t tiled = std::min(z.length, a.tiled_rows);
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
