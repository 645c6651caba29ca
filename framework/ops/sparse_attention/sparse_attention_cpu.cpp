// Rows below keys.tiled_rows go through dense attention's tiles (tile_tasks.h); the others gather, one query
// of one head at a time:
//
//   scores   `width` selected keys at once: a vector of partial products each, then a tree of shuffles adds
//   up
//            the lanes of all of them together
//   out      sum_s a[s] v[s], rows of v in vectors
//
// A block of queries passes over the keys of its head part by part, each part small enough for the L2 cache:
// gathering from the whole head instead waits for the L3 cache, and took three times as long.
//
// Rows are padded with zeros to whole vectors where dh or dv needs it. The order of every sum depends on the
// row's own keys alone. In the backward a task owns the dk and dv of its keys and takes the queries in order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/dense_attention/key_chunks.h"
#include "framework/ops/dense_attention/tile_tasks.h"
#include "framework/ops/dense_attention/vectors.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t queries_per_task = 128;
constexpr int64_t fewest_tasks = 16;  // when tasks are made larger

// Rows of `columns` elements, padded to a multiple of `width`: the very rows where they already are one.
template <class T>
class PaddedRows {
  public:
    PaddedRows(const T* from, int64_t rows, int64_t columns, int64_t width)
        : data_(from), stride_(round_up(columns, width)) {
        if (stride_ == columns) return;
        copy_ = Tensor::empty(Shape{rows, stride_}, dtype_of<T>);
        T* to = copy_.data<T>();
        parallel_for(rows, (1 << 14) / stride_ + 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                std::copy_n(from + i * columns, columns, to + i * stride_);
                std::fill(to + i * stride_ + columns, to + (i + 1) * stride_, T(0));
            }
        });
        data_ = to;
    }
    const T* row(int64_t i) const { return data_ + i * stride_; }
    int64_t stride() const { return stride_; }

  private:
    const T* data_;
    int64_t stride_;
    Tensor copy_;
};

// offsets[j] of row keys[j]; beyond `count`, up to a whole vector, the last one again.
SIEVE_INLINE void row_offsets(const int32_t* keys, int64_t count, int64_t padded, int64_t stride,
                              int64_t* offsets) {
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) offsets[j] = keys[j] * stride;
    for (int64_t j = count; j < padded; ++j) offsets[j] = offsets[count - 1];
}

template <class T, int width, int vectors>
SIEVE_INLINE void add_products(const T* x, const T* rows, const int64_t* offsets, Vector<T, width>* sums) {
    Vector<T, width> xs[vectors];
    for (int v = 0; v < vectors; ++v) xs[v] = load_anywhere<T, width>(x + v * width);
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) {
        const T* row = rows + offsets[i];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sums[i] += xs[v] * load_anywhere<T, width>(row + v * width);
    }
}

// scores[j] = x . (row at offsets[j]) for j < padded.
template <class T, int width>
SIEVE_INLINE void gathered_dots(const T* x, const T* rows, int64_t stride, const int64_t* offsets,
                                int64_t padded, T* scores) {
    for (int64_t j = 0; j < padded; j += width) {
        Vector<T, width> sums[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) sums[i] = Vector<T, width>{};
        if (stride == 2 * width) {  // heads of 32 floats: a loop of one turn would keep 16 row pointers alive
            add_products<T, width, 2>(x, rows, offsets + j, sums);
        } else {
            int64_t d = 0;
            for (; d + 2 * width <= stride; d += 2 * width)
                add_products<T, width, 2>(x + d, rows + d, offsets + j, sums);
            if (d < stride) add_products<T, width, 1>(x + d, rows + d, offsets + j, sums);
        }
        sum_each<T, width>(sums);
        store_anywhere<T, width>(scores + j, sums[0]);
    }
}

// to[d..) (+)= factor * sum_j weights[j] * (row at offsets[j])[d..), `vectors` vectors of it, for j < count.
// Four partial sums hide the latency of the additions.
template <class T, int width, int vectors>
SIEVE_INLINE void gathered_sum_block(const T* weights, const T* rows, const int64_t* offsets, int64_t count,
                                     T factor, bool add, T* to, int64_t columns, int64_t d) {
    using V = Vector<T, width>;
    constexpr int ways = 4;
    V sum[ways][vectors] = {};
    int64_t j = 0;
    for (; j + ways <= count; j += ways) {
#pragma GCC unroll 4
        for (int w = 0; w < ways; ++w) {
            const T* row = rows + offsets[j + w] + d;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v)
                sum[w][v] += weights[j + w] * load_anywhere<T, width>(row + v * width);
        }
    }
    for (; j < count; ++j)
        for (int v = 0; v < vectors; ++v)
            sum[0][v] += weights[j] * load_anywhere<T, width>(rows + offsets[j] + d + v * width);
    for (int v = 0; v < vectors; ++v) {
        V total = sum[0][v];
        for (int w = 1; w < ways; ++w) total += sum[w][v];
        total *= factor;
        const int64_t start = d + v * width;
        if (start + width <= columns) {
            if (add) total += load_anywhere<T, width>(to + start);
            store_anywhere<T, width>(to + start, total);
        } else {
            for (int64_t l = 0; start + l < columns; ++l)
                to[start + l] = (add ? to[start + l] : T(0)) + total[l];
        }
    }
}

template <class T, int width>
SIEVE_INLINE void gathered_sum(const T* weights, const T* rows, int64_t stride, const int64_t* offsets,
                               int64_t count, T factor, bool add, T* to, int64_t columns) {
    int64_t d = 0;
    for (; d + 2 * width <= stride; d += 2 * width)
        gathered_sum_block<T, width, 2>(weights, rows, offsets, count, factor, add, to, columns, d);
    if (d < stride)
        gathered_sum_block<T, width, 1>(weights, rows, offsets, count, factor, add, to, columns, d);
}

// (row at offsets[j])[d..) += weights[j] * factor * x[d..) for j < count.
template <class T, int width, int vectors>
SIEVE_INLINE void scatter_block(const T* weights, const int64_t* offsets, int64_t count, T factor, const T* x,
                                T* sums) {
    Vector<T, width> xs[vectors];
    for (int v = 0; v < vectors; ++v) xs[v] = load_anywhere<T, width>(x + v * width) * factor;
    for (int64_t j = 0; j < count; ++j) {
        T* row = sums + offsets[j];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) at<T, width>(row + v * width) += weights[j] * xs[v];
    }
}

template <class T, int width>
SIEVE_INLINE void scatter_add(const T* weights, const int64_t* offsets, int64_t count, T factor, const T* x,
                              T* sums, int64_t stride) {
    int64_t d = 0;
    for (; d + 2 * width <= stride; d += 2 * width)
        scatter_block<T, width, 2>(weights, offsets, count, factor, x + d, sums + d);
    if (d < stride) scatter_block<T, width, 1>(weights, offsets, count, factor, x + d, sums + d);
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

// The padded tensors that a kernel reads rows from.
template <class T>
struct Rows {
    PaddedRows<T> q, k, v;

    template <class Args>
    Rows(const Args& a, int64_t width)
        : q(a.q, a.size.batch * a.size.heads * a.size.queries(), a.size.dim, width),
          k(a.k, a.size.batch * a.size.kv_heads * a.size.key_rows, a.size.dim, width),
          v(a.v, a.size.batch * a.size.kv_heads * a.size.key_rows, a.size.value_dim, width) {}
};

// Keys of one pass: the rows gathered from in it take half an L2 cache of 512 KiB.
inline int64_t pass_keys(int64_t elements_a_key, size_t element_size) {
    const int64_t bytes = std::max<int64_t>(1, elements_a_key) * static_cast<int64_t>(element_size);
    return std::max<int64_t>(64, (int64_t{1} << 40) / bytes);
}

// How many of the keys [keys, last), which ascend, lie below `end`.
SIEVE_INLINE int64_t keys_below(const int32_t* keys, const int32_t* last, int64_t end) {
    return std::lower_bound(keys, last, end) - keys;
}

// A block of queries of one head, and the scratch for it.
template <class T>
struct QueryBlock {
    int64_t b, h, begin, end;
    T* scores;         // [end - begin, stride]
    T* over_sum;       // [end - begin]
    int64_t* offsets;  // [stride]
    int32_t* done;     // [end - begin]: selected keys of the passes so far
    int64_t stride;    // slots in whole vectors, and one vector more over which a pass may write
};

// Calls body(t, first, n) for every query t of the block and every pass in which the selected keys [first,
// first + n) of t lie, n > 0; one pass after the other.
template <class T, class F>
SIEVE_INLINE void for_passes(const AttentionForward<T>& a, const QueryBlock<T>& block, int64_t keys_a_pass,
                             F&& body) {
    std::fill(block.done, block.done + (block.end - block.begin), 0);
    for (int64_t first = 0; first < block.end; first += keys_a_pass)
        for (int64_t t = std::max(block.begin, first); t < block.end; ++t) {
            const int64_t row = a.size.token_row(block.b, t);
            const int32_t* keys = a.keys.indices + row * a.keys.slots;
            const int64_t done = block.done[t - block.begin];
            const int64_t n = keys_below(keys + done, keys + a.keys.counts[row], first + keys_a_pass);
            if (n == 0) continue;
            body(t, done, n);
            block.done[t - block.begin] = static_cast<int32_t>(done + n);
        }
}

// out and lse of a block of queries.
struct GatheredForward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, const Rows<T>& rows,
                                 const QueryBlock<T>& block) {
        const AttentionSizes& z = a.size;
        const int64_t b = block.b, h = block.h;
        const int64_t first_kv = (b * z.kv_heads + h / (z.heads / z.kv_heads)) * z.key_rows;
        const auto keys_of = [&](int64_t t) { return a.keys.indices + z.token_row(b, t) * a.keys.slots; };
        const auto scores_of = [&](int64_t t) { return block.scores + (t - block.begin) * block.stride; };
        const auto out_of = [&](int64_t t) {
            return a.out + (z.token_row(b, t) * z.heads + h) * z.value_dim;
        };
        for_passes(a, block, pass_keys(rows.k.stride(), sizeof(T)), [&](int64_t t, int64_t first, int64_t n) {
            const int64_t padded = round_up(n, width);
            row_offsets(keys_of(t) + first, n, padded, rows.k.stride(), block.offsets);
            gathered_dots<T, width>(rows.q.row(z.head_row(b, h, t)), rows.k.row(first_kv), rows.k.stride(),
                                    block.offsets, padded, scores_of(t) + first);
        });
        for (int64_t t = block.begin; t < block.end; ++t) {
            const int64_t count = a.keys.counts[z.token_row(b, t)];
            T* lse = a.lse + z.head_row(b, h, t);
            std::fill(out_of(t), out_of(t) + z.value_dim, T(0));
            *lse = -std::numeric_limits<T>::infinity();
            if (count == 0) continue;
            const RowSum<T> r = softmax_row<T, width>(scores_of(t), count, round_up(count, width), a.scale);
            *lse = r.maximum + std::log(r.sum);
            block.over_sum[t - block.begin] = T(1) / r.sum;
        }
        for_passes(a, block, pass_keys(rows.v.stride(), sizeof(T)), [&](int64_t t, int64_t first, int64_t n) {
            row_offsets(keys_of(t) + first, n, n, rows.v.stride(), block.offsets);
            gathered_sum<T, width>(scores_of(t) + first, rows.v.row(first_kv), rows.v.stride(), block.offsets,
                                   n, block.over_sum[t - block.begin], true, out_of(t), z.value_dim);
        });
    }
};

// Queries of a block: so many that the keys of a pass are used often, so few that their scores stay in the
// cache beside them.
int64_t block_queries(int64_t slots) {
    return std::clamp<int64_t>((1 << 15) / std::max<int64_t>(1, slots), 8, queries_per_task);
}

template <class T>
void gather_block(const AttentionForward<T>& a, const Rows<T>& rows, int64_t b, int64_t h, int64_t begin,
                  int64_t end) {
    const int64_t stride = round_up(a.keys.slots, widest<T>()) + widest<T>(), queries = end - begin;
    const Tensor numbers = Tensor::empty(Shape{queries * (stride + 1)}, dtype_of<T>);
    const Tensor offsets = Tensor::empty(Shape{stride}, DType::int64);
    const Tensor done = Tensor::empty(Shape{queries}, DType::int32);
    T* scores = numbers.data<T>();
    run_best<GatheredForward, T>(a, rows,
                                 QueryBlock<T>{.b = b,
                                               .h = h,
                                               .begin = begin,
                                               .end = end,
                                               .scores = scores,
                                               .over_sum = scores + queries * stride,
                                               .offsets = offsets.data<int64_t>(),
                                               .done = done.data<int32_t>(),
                                               .stride = stride});
}

// weights: dots q.k -> a; dscores: dots dout.v -> dz, for the first `count`.
template <class T>
SIEVE_INLINE void softmax_row_backward(T* __restrict weights, T* __restrict dscores, int64_t count, T scale,
                                       T lse, T delta) {
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) {
        weights[j] = simd_exp(scale * weights[j] - lse);
        dscores[j] = weights[j] * (dscores[j] - delta);
    }
}

// What the gathering backward of a task works with.
template <class T>
struct BackwardScratch {
    T *weights, *dscores;            // [slots in whole vectors]
    int64_t *k_offsets, *v_offsets;  // the same
    int32_t* done;                   // [T]: selected keys of the passes so far, and those before the task's
};

template <class T>
class BackwardScratchTensors {
  public:
    BackwardScratchTensors(int64_t slots, int64_t length)
        : size_(round_up(slots, widest<T>())),
          scores_(Tensor::empty(Shape{2, size_}, dtype_of<T>)),
          offsets_(Tensor::empty(Shape{2, size_}, DType::int64)),
          done_(Tensor::empty(Shape{length}, DType::int32)) {}
    BackwardScratch<T> pointers() const {
        T* scores = scores_.data<T>();
        int64_t* offsets = offsets_.data<int64_t>();
        return {.weights = scores,
                .dscores = scores + size_,
                .k_offsets = offsets,
                .v_offsets = offsets + size_,
                .done = done_.data<int32_t>()};
    }

  private:
    int64_t size_;
    Tensor scores_, offsets_, done_;
};

// What the gathering backward reads beside the arguments.
template <class T>
struct BackwardRows {
    Rows<T> rows;
    PaddedRows<T> dout;
    Tensor delta;  // [B,T,H], dout . out
};

// One query of one head and n of its keys: its dq from them, and what it sends to their dk and dv.
template <class T, int width>
SIEVE_INLINE void gathered_backward_row(const AttentionBackward<T>& a, const BackwardRows<T>& r,
                                        const KeyTask<T>& task, int64_t h, int64_t t, const int32_t* keys,
                                        int64_t n, bool add, const BackwardScratch<T>& s) {
    const AttentionSizes& z = a.size;
    const int64_t g = h / (z.heads / z.kv_heads), b = task.b, padded = round_up(n, width);
    const int64_t q_row = (b * z.heads + h) * z.length + t, out_row = (b * z.length + t) * z.heads + h;
    const int64_t first_kv = (b * z.kv_heads + g) * z.length;
    const PaddedRows<T>&k = r.rows.k, &v = r.rows.v;
    const bool same_rows = v.stride() == k.stride();
    const int64_t* v_offsets = same_rows ? s.k_offsets : s.v_offsets;
    row_offsets(keys, n, padded, k.stride(), s.k_offsets);
    if (!same_rows) row_offsets(keys, n, padded, v.stride(), s.v_offsets);
    const T *q = r.rows.q.row(q_row), *dout = r.dout.row(out_row);
    gathered_dots<T, width>(q, k.row(first_kv), k.stride(), s.k_offsets, padded, s.weights);
    gathered_dots<T, width>(dout, v.row(first_kv), v.stride(), v_offsets, padded, s.dscores);
    softmax_row_backward(s.weights, s.dscores, n, a.scale, a.lse[q_row], r.delta.template data<T>()[out_row]);
    gathered_sum<T, width>(s.dscores, k.row(first_kv), k.stride(), s.k_offsets, n, a.scale, add,
                           task.dq + q_row * z.dim, z.dim);
    scatter_add<T, width>(s.dscores, s.k_offsets, n, a.scale, q, task.dk_of(g) - task.begin * k.stride(),
                          k.stride());
    scatter_add<T, width>(s.weights, v_offsets, n, T(1), dout, task.dv_of(g) - task.begin * v.stride(),
                          v.stride());
}

// The queries from `first_row` on: their dq, and their share of the task's dk and dv. The first pass writes
// the dq of every row, the others add to it.
struct GatheredBackward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionBackward<T>& a, const BackwardRows<T>& rows,
                                 const KeyTask<T>& task, int64_t first_row, const BackwardScratch<T>& s) {
        const AttentionSizes& z = a.size;
        const int64_t group = z.heads / z.kv_heads;
        const int64_t step = pass_keys(2 * (rows.rows.k.stride() + rows.rows.v.stride()), sizeof(T));
        const auto keys_of = [&](int64_t t) {
            return a.keys.indices + (task.b * z.length + t) * a.keys.slots;
        };
        const auto last_of = [&](int64_t t) { return keys_of(t) + a.keys.counts[task.b * z.length + t]; };
        for (int64_t h = task.first * group; h < (task.first + task.heads) * group; ++h) {
            for (int64_t t = first_row; t < z.length; ++t)
                s.done[t] = static_cast<int32_t>(keys_below(keys_of(t), last_of(t), task.begin));
            for (int64_t begin = task.begin; begin < task.end; begin += step)
                for (int64_t t = std::max(first_row, begin); t < z.length; ++t) {
                    const int32_t* keys = keys_of(t) + s.done[t];
                    const int64_t n = keys_below(keys, last_of(t), std::min(task.end, begin + step));
                    if (n == 0 && begin > task.begin) continue;
                    gathered_backward_row<T, width>(a, rows, task, h, t, keys, n, begin > task.begin, s);
                    s.done[t] += static_cast<int32_t>(n);
                }
        }
    }
};

// [B,T,H]: dout . out
template <class T>
Tensor row_deltas(const AttentionBackward<T>& a) {
    const int64_t rows = a.size.batch * a.size.length * a.size.heads, dim = a.size.value_dim;
    const Tensor delta = Tensor::empty(Shape{rows}, dtype_of<T>);
    parallel_for(rows, 1024, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            delta.data<T>()[i] = dot(a.dout + i * dim, a.out + i * dim, dim);
    });
    return delta;
}

// Heads of a batch row that share the masks of its tiles, as long as enough tasks remain for the threads.
int64_t heads_per_task(const AttentionSizes& z) {
    int64_t heads = 1;
    while (z.kv_heads % (2 * heads) == 0 && z.batch * z.kv_heads >= 2 * heads * fewest_tasks) heads *= 2;
    return heads;
}

}  // namespace

template <class T>
void sparse_attention_forward(const AttentionForward<T>& a) {
    const AttentionSizes& z = a.size;
    // The queries before `tiled` go through tiles.
    const int64_t tiled = std::max(z.first_query, std::min(z.length, a.keys.tiled_rows));
    const int64_t tile_parts = (tiled - z.first_query + queries_per_task - 1) / queries_per_task;
    const int64_t gathered = z.length - tiled;
    run_tasks(z.batch * tile_parts, attention_work(z), [&](int64_t task) {
        const int64_t part = tile_parts - 1 - task % tile_parts;  // the longest rows first
        const int64_t begin = z.first_query + part * queries_per_task;
        attend_by_tiles(a, task / tile_parts, 0, z.heads, begin, std::min(tiled, begin + queries_per_task));
    });
    if (gathered == 0) return;
    const Rows<T> rows(a, widest<T>());
    const int64_t block = block_queries(a.keys.slots), parts = (gathered + block - 1) / block;
    run_tasks(z.batch * z.heads * parts, attention_work(z), [&](int64_t task) {
        const int64_t begin = tiled + task % parts * block, row = task / parts;
        gather_block(a, rows, row / z.heads, row % z.heads, begin, std::min(z.length, begin + block));
    });
}

template <class T>
void sparse_attention_backward(const AttentionBackward<T>& a) {
    const AttentionSizes& z = a.size;
    const int64_t tiled = std::min(z.length, a.keys.tiled_rows);
    if (tiled == z.length) {
        run_key_tasks(a, heads_per_task(z),
                      [&](const KeyTask<T>& task) { attend_back_by_tiles(a, task, tiled); });
        return;
    }
    const int64_t width = widest<T>();
    const BackwardRows<T> rows{.rows = Rows<T>(a, width),
                               .dout = {a.dout, z.batch * z.length * z.heads, z.value_dim, width},
                               .delta = row_deltas(a)};
    run_key_tasks(a, 1, [&](const KeyTask<T>& task) {
        if (task.begin < tiled) attend_back_by_tiles(a, task, tiled);
        const BackwardScratchTensors<T> scratch(a.keys.slots, z.length);
        run_best<GatheredBackward, T>(a, rows, task, std::max(tiled, task.begin), scratch.pointers());
    });
}

template void sparse_attention_forward(const AttentionForward<float>&);
template void sparse_attention_forward(const AttentionForward<double>&);
template void sparse_attention_backward(const AttentionBackward<float>&);
template void sparse_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cpu
