// The forward. Rows below tiled_rows go through dense attention's tiles (tile_tasks.h); the others
// gather, one query of one head at a time:
//
//   scores   `width` selected keys at once: a vector of partial products each, then a tree of shuffles adds
//            up the lanes of all of them together
//   out      sum_s a[s] v[s], rows of v in vectors
//
// A block of queries passes over the keys of its head part by part, each part small enough for the L2 cache:
// gathering from the whole head instead waits for the L3 cache, and took three times as long.
//
// Rows are padded with zeros to whole vectors where dh or dv needs it. The order of every sum depends on the
// row's own keys alone.
#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/attention/gather/gather_kernels.h"
#include "framework/attention/gather/padded_rows.h"
#include "framework/attention/tiles/attention_vectors.h"
#include "framework/attention/tiles/key_chunks.h"
#include "framework/attention/tiles/tile_tasks.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"

namespace sieve::cpu {
namespace {

constexpr int64_t queries_per_task = 128;

// The rows of one head's k or v; key s has row s.
template <class T>
struct HeadRows {
    T* first;
    int64_t stride;
    T* of(int32_t key) const { return first + key * stride; }
};

template <class T, int width, int vectors>
SIEVE_INLINE void add_products(const T* x, const HeadRows<const T>& rows, const int32_t* keys, int64_t d,
                               Vector<T, width>* sums) {
    Vector<T, width> xs[vectors];
    for (int v = 0; v < vectors; ++v) xs[v] = load_anywhere<T, width>(x + d + v * width);
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) {
        const T* row = rows.of(keys[i]) + d;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[i] += xs[v] * load_anywhere<T, width>(row + v * width);
    }
}

// scores[0..width) = x . (rows of `width` keys)
template <class T, int width>
SIEVE_INLINE void dots_of(const T* x, const HeadRows<const T>& rows, const int32_t* keys, T* scores) {
    Vector<T, width> sums[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) sums[i] = Vector<T, width>{};
    // Heads of 32 floats: a loop of one turn would keep all the row pointers alive.
    if (rows.stride == 4 * width) {
        add_products<T, width, 4>(x, rows, keys, 0, sums);
    } else if (rows.stride == 2 * width) {
        add_products<T, width, 2>(x, rows, keys, 0, sums);
    } else {
        int64_t d = 0;
        for (; d + 2 * width <= rows.stride; d += 2 * width)
            add_products<T, width, 2>(x, rows, keys, d, sums);
        if (d < rows.stride) add_products<T, width, 1>(x, rows, keys, d, sums);
    }
    sum_each<T, width>(sums);
    store_anywhere<T, width>(scores, sums[0]);
}

// scores[j] = x . (row of keys[j]) for j < count; up to a whole vector is written.
template <class T, int width>
SIEVE_INLINE void gathered_dots(const T* x, const HeadRows<const T>& rows, const int32_t* keys, int64_t count,
                                T* scores) {
    int64_t j = 0;
    for (; j + width <= count; j += width) dots_of<T, width>(x, rows, keys + j, scores + j);
    if (j == count) return;
    int32_t rest[width];
    for (int i = 0; i < width; ++i) rest[i] = keys[std::min(j + i, count - 1)];
    dots_of<T, width>(x, rows, rest, scores + j);
}

// to[d..) += factor * sum_j weights[j] * (row of keys[j])[d..), `vectors` vectors of it, for j < count. The
// partial sums, 8 vectors of them, hide the latency of the additions.
template <class T, int width, int vectors>
SIEVE_INLINE void gathered_sum_block(const T* weights, const HeadRows<const T>& rows, const int32_t* keys,
                                     int64_t count, T factor, T* to, int64_t columns, int64_t d) {
    using V = Vector<T, width>;
    constexpr int ways = 8 / vectors;
    V sum[ways][vectors] = {};
    int64_t j = 0;
    for (; j + ways <= count; j += ways) {
#pragma GCC unroll 8
        for (int w = 0; w < ways; ++w) {
            const T* row = rows.of(keys[j + w]) + d;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                sum[w][v] += weights[j + w] * load_anywhere<T, width>(row + v * width);
        }
    }
    for (; j < count; ++j)
        for (int v = 0; v < vectors; ++v)
            sum[0][v] += weights[j] * load_anywhere<T, width>(rows.of(keys[j]) + d + v * width);
    for (int v = 0; v < vectors; ++v) {
        V total = sum[0][v];
        for (int w = 1; w < ways; ++w) total += sum[w][v];
        total *= factor;
        const int64_t start = d + v * width;
        if (start + width <= columns) {
            total += load_anywhere<T, width>(to + start);
            store_anywhere<T, width>(to + start, total);
        } else {
            for (int64_t l = 0; start + l < columns; ++l) to[start + l] += total[l];
        }
    }
}

template <class T, int width>
SIEVE_INLINE void gathered_sum(const T* weights, const HeadRows<const T>& rows, const int32_t* keys,
                               int64_t count, T factor, T* to, int64_t columns) {
    int64_t d = 0;
    for (; d + 4 * width <= rows.stride; d += 4 * width)
        gathered_sum_block<T, width, 4>(weights, rows, keys, count, factor, to, columns, d);
    for (; d + 2 * width <= rows.stride; d += 2 * width)
        gathered_sum_block<T, width, 2>(weights, rows, keys, count, factor, to, columns, d);
    if (d < rows.stride) gathered_sum_block<T, width, 1>(weights, rows, keys, count, factor, to, columns, d);
}

template <class T>
struct RowSum {
    T maximum, sum;
};

// scores[0..count) -> exp(scale * scores - maximum), 0 from there to `padded`.
template <class T, int width>
SIEVE_INLINE RowSum<T> softmax_row(T* __restrict scores, int64_t count, int64_t padded, T scale) {
    using V = Vector<T, width>;
    V high = V{} + no_score<T>, sum = {};
    std::fill(scores + count, scores + padded, scores[0]);
    for (int64_t j = 0; j < padded; j += width) max_into<T, width>(high, load<T, width>(scores + j) * scale);
    RowSum<T> r{high[0], 0};
    for (int l = 1; l < width; ++l) r.maximum = std::max<T>(r.maximum, high[l]);
    const T maximum = r.maximum;
#pragma omp simd
    for (int64_t j = 0; j < padded; ++j) scores[j] = simd_exp(scores[j] * scale - maximum);
    std::fill(scores + count, scores + padded, T(0));
    for (int64_t j = 0; j < padded; j += width) sum += load<T, width>(scores + j);
    for (int l = 0; l < width; ++l) r.sum += sum[l];
    return r;
}

// Keys of one pass: the rows gathered from in it take half an L2 cache of 512 KiB. Not fewer than 256, so
// that the bounds of the passes stay small beside the selection.
inline int64_t pass_keys(int64_t elements_a_key, size_t element_size) {
    const int64_t bytes = std::max<int64_t>(1, elements_a_key) * static_cast<int64_t>(element_size);
    return std::max<int64_t>(256, (int64_t{1} << 18) / bytes);
}

// Where the selected keys of each row fall apart into passes, the same for all heads.
class PassBounds {
  public:
    PassBounds(const SelectedKeys& keys, int64_t rows, int64_t key_rows, int64_t keys_a_pass)
        : keys_a_pass_(keys_a_pass),
          passes_((key_rows + keys_a_pass - 1) / keys_a_pass),
          bounds_(Tensor::empty(Shape{rows, passes_ + 1}, DType::int32)) {
        parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                const int32_t* selected = keys.indices + row * keys.slots;
                fill(selected, selected + keys.counts[row], bounds_.data<int32_t>() + row * (passes_ + 1));
            }
        });
    }

    int64_t passes() const { return passes_; }
    // bounds[i] to bounds[i + 1]: the selected keys of pass i.
    const int32_t* of(int64_t row) const { return bounds_.data<int32_t>() + row * (passes_ + 1); }

  private:
    void fill(const int32_t* selected, const int32_t* last, int32_t* bounds) const {
        const int32_t* next = selected;
        for (int64_t i = 0; i < passes_; ++i) {
            bounds[i] = static_cast<int32_t>(next - selected);
            next = std::lower_bound(next, last, (i + 1) * keys_a_pass_);
        }
        bounds[passes_] = static_cast<int32_t>(last - selected);
    }

    int64_t keys_a_pass_, passes_;
    Tensor bounds_;
};

// A block of queries, and the scratch for one head of it.
template <class T>
struct QueryBlock {
    int64_t b, begin, end;
    T* scores;       // [end - begin, stride]
    T* over_sum;     // [end - begin]
    int64_t stride;  // slots in whole vectors, and one vector more over which a pass may write
};

// Calls body(t, first, n) for every query t of the block and every pass in which the selected keys [first,
// first + n) of t lie, n > 0; one pass after the other.
template <class T, class F>
SIEVE_INLINE void for_passes(const AttentionSizes& z, const QueryBlock<T>& block, const PassBounds& bounds,
                             F&& body) {
    for (int64_t pass = 0; pass < bounds.passes(); ++pass)
        for (int64_t t = block.begin; t < block.end; ++t) {
            const int32_t* own = bounds.of(z.token_row(block.b, t)) + pass;
            if (own[1] > own[0]) body(t, int64_t{own[0]}, int64_t{own[1] - own[0]});
        }
}

// weight_sums[t] (+)= the probabilities of one head, which are the exponentials over their sum.
template <class T>
SIEVE_INLINE void add_weights(const T* __restrict exponentials, int64_t count, T over_sum, bool add,
                              T* __restrict sums) {
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < count; ++j) sums[j] += exponentials[j] * over_sum;
    } else {
#pragma omp simd
        for (int64_t j = 0; j < count; ++j) sums[j] = exponentials[j] * over_sum;
    }
}

// out and lse of one head of a block of queries.
template <class T, int width>
SIEVE_INLINE void gathered_forward_head(const AttentionForward<T>& a, const AttentionRows<T>& rows,
                                        const PassBounds& bounds, const QueryBlock<T>& block, int64_t h) {
    const AttentionSizes& z = a.size;
    const int64_t b = block.b, first_kv = (b * z.kv_heads + h / (z.heads / z.kv_heads)) * z.key_rows;
    const HeadRows<const T> k{rows.k.row(first_kv), rows.k.stride()},
        v{rows.v.row(first_kv), rows.v.stride()};
    const auto keys_of = [&](int64_t t) { return a.keys.indices + z.token_row(b, t) * a.keys.slots; };
    const auto scores_of = [&](int64_t t) { return block.scores + (t - block.begin) * block.stride; };
    const auto out_of = [&](int64_t t) { return a.out + (z.token_row(b, t) * z.heads + h) * z.value_dim; };
    for_passes(z, block, bounds, [&](int64_t t, int64_t first, int64_t n) SIEVE_INLINE_LAMBDA {
        gathered_dots<T, width>(rows.q.row(z.head_row(b, h, t)), k, keys_of(t) + first, n,
                                scores_of(t) + first);
    });
    for (int64_t t = block.begin; t < block.end; ++t) {
        const int64_t count = a.keys.counts[z.token_row(b, t)];
        std::fill(out_of(t), out_of(t) + z.value_dim, T(0));
        const RowSum<T> r = softmax_row<T, width>(scores_of(t), count, round_up(count, width), a.scale);
        const LogSumExp<T> lse = log_sum_exp(r.maximum, r.sum);
        a.lse[z.head_row(b, h, t)] = lse.value;
        a.lse_rest[z.head_row(b, h, t)] = lse.rest;
        if (count == 0) continue;
        block.over_sum[t - block.begin] = T(1) / r.sum;
        if (a.weight_sums)
            add_weights(scores_of(t), count, T(1) / r.sum, h > 0,
                        a.weight_sums + z.token_row(b, t) * a.keys.slots);
    }
    for_passes(z, block, bounds, [&](int64_t t, int64_t first, int64_t n) SIEVE_INLINE_LAMBDA {
        gathered_sum<T, width>(scores_of(t) + first, v, keys_of(t) + first, n,
                               block.over_sum[t - block.begin], out_of(t), z.value_dim);
    });
}

struct GatheredForward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, const AttentionRows<T>& rows,
                                 const PassBounds& bounds, const QueryBlock<T>& block) {
        for (int64_t h = 0; h < a.size.heads; ++h) gathered_forward_head<T, width>(a, rows, bounds, block, h);
    }
};

// Queries of a block: so many that the keys of a pass are used often, so few that their scores stay in the
// cache beside them.
int64_t block_queries(int64_t slots) {
    return std::clamp<int64_t>((1 << 15) / std::max<int64_t>(1, slots), 8, queries_per_task);
}

template <class T>
void gather_block(const AttentionForward<T>& a, const AttentionRows<T>& rows, const PassBounds& bounds,
                  int64_t b, int64_t begin, int64_t end) {
    const int64_t stride = round_up(a.keys.slots, widest<T>()) + widest<T>(), queries = end - begin;
    const Tensor numbers = Tensor::empty(Shape{queries * (stride + 1)}, dtype_of<T>);
    T* scores = numbers.data<T>();
    run_best<GatheredForward, T>(a, rows, bounds,
                                 QueryBlock<T>{.b = b,
                                               .begin = begin,
                                               .end = end,
                                               .scores = scores,
                                               .over_sum = scores + queries * stride,
                                               .stride = stride});
}

}  // namespace

template <class T>
void sparse_attention_forward(const AttentionForward<T>& a) {
    const AttentionSizes& z = a.size;
    // The queries before `tiled` go through tiles.
    const int64_t tiled = std::max(z.first_query, std::min(z.length, a.tiled_rows));
    const int64_t tile_parts = (tiled - z.first_query + queries_per_task - 1) / queries_per_task;
    const int64_t gathered = z.length - tiled;
    run_tasks(z.batch * tile_parts, attention_work(z), [&](int64_t task) {
        const int64_t part = tile_parts - 1 - task % tile_parts;  // the longest rows first
        const int64_t begin = z.first_query + part * queries_per_task;
        attend_by_tiles(a, task / tile_parts, 0, z.heads, begin, std::min(tiled, begin + queries_per_task));
    });
    if (gathered == 0) return;
    const AttentionRows<T> rows(a);
    const int64_t block = block_queries(a.keys.slots), parts = (gathered + block - 1) / block;
    const PassBounds bounds(a.keys, z.batch * z.queries(), z.length,
                            pass_keys(std::max(rows.k.stride(), rows.v.stride()), sizeof(T)));
    run_tasks(z.batch * parts, attention_work(z), [&](int64_t task) {
        const int64_t begin = tiled + task % parts * block;
        gather_block(a, rows, bounds, task / parts, begin, std::min(z.length, begin + block));
    });
}

template void sparse_attention_forward(const AttentionForward<float>&);
template void sparse_attention_forward(const AttentionForward<double>&);

}  // namespace sieve::cpu
