// Rows below keys.tiled_rows go through dense attention's tiles (tile_tasks.h); the others gather, one query
// of one head at a time:
//
//   scores   `width` selected keys at once: a vector of partial products each, then a tree of shuffles adds
//   up the
//            lanes of all of them together
//   out      sum_s a[s] v[s], rows of v in vectors
//
// Rows are padded with zeros to whole vectors where dh or dv needs it. The order of every sum depends on the
// row's number of keys alone. In the backward a task owns the dk and dv of its keys and takes the queries in
// order.
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
        at<T, width>(scores + j) = sums[0];
    }
}

// to[d..) = factor * sum_j weights[j] * (row at offsets[j])[d..), `vectors` vectors of it, for j < padded.
// Four partial sums hide the latency of the additions.
template <class T, int width, int vectors>
SIEVE_INLINE void gathered_sum_block(const T* weights, const T* rows, const int64_t* offsets, int64_t padded,
                                     T factor, T* to, int64_t columns, int64_t d) {
    using V = Vector<T, width>;
    constexpr int ways = width < 4 ? width : 4;
    V sum[ways][vectors] = {};
    for (int64_t j = 0; j < padded; j += ways) {
#pragma GCC unroll 4
        for (int w = 0; w < ways; ++w) {
            const T* row = rows + offsets[j + w] + d;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v)
                sum[w][v] += weights[j + w] * load_anywhere<T, width>(row + v * width);
        }
    }
    for (int v = 0; v < vectors; ++v) {
        V total = sum[0][v];
        for (int w = 1; w < ways; ++w) total += sum[w][v];
        total *= factor;
        const int64_t start = d + v * width;
        if (start + width <= columns) {
            store_anywhere<T, width>(to + start, total);
        } else {
            for (int64_t l = 0; start + l < columns; ++l) to[start + l] = total[l];
        }
    }
}

template <class T, int width>
SIEVE_INLINE void gathered_sum(const T* weights, const T* rows, int64_t stride, const int64_t* offsets,
                               int64_t padded, T factor, T* to, int64_t columns) {
    int64_t d = 0;
    for (; d + 2 * width <= stride; d += 2 * width)
        gathered_sum_block<T, width, 2>(weights, rows, offsets, padded, factor, to, columns, d);
    if (d < stride) gathered_sum_block<T, width, 1>(weights, rows, offsets, padded, factor, to, columns, d);
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

// scores[0..count) -> exp(scale * scores - maximum), 0 from there to `padded`; the scores there repeat the
// last one.
template <class T, int width>
SIEVE_INLINE RowSum<T> softmax_row(T* __restrict scores, int64_t count, int64_t padded, T scale) {
    using V = Vector<T, width>;
    V high = V{} + no_score<T>, sum = {};
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

// Scratch of one row.
template <class T>
struct RowScratch {
    T *weights, *dscores;            // [slots, whole vectors]
    int64_t *k_offsets, *v_offsets;  // the same
};

// Where the rows of k and v (dk and dv) of the selected keys start.
struct RowOffsets {
    const int64_t *k, *v;
};

template <class T>
SIEVE_INLINE RowOffsets offsets_of(const int32_t* keys, int64_t count, int64_t padded, const Rows<T>& rows,
                                   const RowScratch<T>& s) {
    row_offsets(keys, count, padded, rows.k.stride(), s.k_offsets);
    if (rows.v.stride() == rows.k.stride()) return {s.k_offsets, s.k_offsets};
    row_offsets(keys, count, padded, rows.v.stride(), s.v_offsets);
    return {s.k_offsets, s.v_offsets};
}

template <class T>
class RowScratchTensors {
  public:
    explicit RowScratchTensors(int64_t slots)
        : size_(round_up(slots, widest<T>())),
          scores_(Tensor::empty(Shape{2, size_}, dtype_of<T>)),
          offsets_(Tensor::empty(Shape{2, size_}, DType::int64)) {}
    RowScratch<T> pointers() const {
        T* scores = scores_.data<T>();
        int64_t* offsets = offsets_.data<int64_t>();
        return {
            .weights = scores, .dscores = scores + size_, .k_offsets = offsets, .v_offsets = offsets + size_};
    }

  private:
    int64_t size_;
    Tensor scores_, offsets_;
};

// out and lse of the queries [begin, end) of one head.
struct GatheredForward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, const Rows<T>& rows, int64_t b, int64_t h,
                                 int64_t begin, int64_t end, const RowScratch<T>& s) {
        const AttentionSizes& z = a.size;
        const int64_t first_kv = (b * z.kv_heads + h / (z.heads / z.kv_heads)) * z.key_rows;
        for (int64_t t = begin; t < end; ++t) {
            const int64_t row = z.token_row(b, t), q_row = z.head_row(b, h, t);
            const int32_t* keys = a.keys.indices + row * a.keys.slots;
            const int64_t count = a.keys.counts[row], padded = round_up(count, width);
            T* out = a.out + (row * z.heads + h) * z.value_dim;
            if (count == 0) {
                std::fill(out, out + z.value_dim, T(0));
                a.lse[q_row] = -std::numeric_limits<T>::infinity();
                continue;
            }
            const RowOffsets at = offsets_of(keys, count, padded, rows, s);
            gathered_dots<T, width>(rows.q.row(q_row), rows.k.row(first_kv), rows.k.stride(), at.k, padded,
                                    s.weights);
            const RowSum<T> r = softmax_row<T, width>(s.weights, count, padded, a.scale);
            a.lse[q_row] = r.maximum + std::log(r.sum);
            gathered_sum<T, width>(s.weights, rows.v.row(first_kv), rows.v.stride(), at.v, padded,
                                   T(1) / r.sum, out, z.value_dim);
        }
    }
};

// weights: dots q.k -> a; dscores: dots dout.v -> dz, both 0 beyond `count`.
template <class T>
SIEVE_INLINE void softmax_row_backward(T* __restrict weights, T* __restrict dscores, int64_t count,
                                       int64_t padded, T scale, T lse, T delta) {
#pragma omp simd
    for (int64_t j = 0; j < padded; ++j) {
        weights[j] = simd_exp(scale * weights[j] - lse);
        dscores[j] = weights[j] * (dscores[j] - delta);
    }
    std::fill(dscores + count, dscores + padded, T(0));
}

// One query of one head: its dq from the keys of the task, and what it sends to their dk and dv.
template <class T, int width>
SIEVE_INLINE void gathered_backward_row(const AttentionBackward<T>& a, const Rows<T>& rows,
                                        const PaddedRows<T>& dout, const KeyTask<T>& task, int64_t h,
                                        int64_t t, const RowScratch<T>& s) {
    const AttentionSizes& z = a.size;
    const int64_t g = h / (z.heads / z.kv_heads), b = task.b;
    const int64_t q_row = (b * z.heads + h) * z.length + t, out_row = (b * z.length + t) * z.heads + h;
    const int64_t first_kv = (b * z.kv_heads + g) * z.length;
    const int32_t* selected = a.keys.indices + (b * z.length + t) * a.keys.slots;
    const int32_t* last = selected + a.keys.counts[b * z.length + t];
    const int32_t* keys = std::lower_bound(selected, last, task.begin);
    const int64_t count = std::lower_bound(keys, last, task.end) - keys, padded = round_up(count, width);
    const RowOffsets at = offsets_of(keys, count, padded, rows, s);
    const T *q = rows.q.row(q_row), *dout_row = dout.row(out_row), *k = rows.k.row(first_kv);
    gathered_dots<T, width>(q, k, rows.k.stride(), at.k, padded, s.weights);
    gathered_dots<T, width>(dout_row, rows.v.row(first_kv), rows.v.stride(), at.v, padded, s.dscores);
    const T delta = dot(a.dout + out_row * z.value_dim, a.out + out_row * z.value_dim, z.value_dim);
    softmax_row_backward(s.weights, s.dscores, count, padded, a.scale, a.lse[q_row], delta);
    gathered_sum<T, width>(s.dscores, k, rows.k.stride(), at.k, padded, a.scale, task.dq + q_row * z.dim,
                           z.dim);
    scatter_add<T, width>(s.dscores, at.k, count, a.scale, q, task.dk_of(g) - task.begin * rows.k.stride(),
                          rows.k.stride());
    scatter_add<T, width>(s.weights, at.v, count, T(1), dout_row,
                          task.dv_of(g) - task.begin * rows.v.stride(), rows.v.stride());
}

// The queries from `first_row` on: their dq, and their share of the task's dk and dv.
struct GatheredBackward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionBackward<T>& a, const Rows<T>& rows,
                                 const PaddedRows<T>& dout, const KeyTask<T>& task, int64_t first_row,
                                 const RowScratch<T>& scratch) {
        const int64_t group = a.size.heads / a.size.kv_heads;
        for (int64_t h = task.first * group; h < (task.first + task.heads) * group; ++h)
            for (int64_t t = first_row; t < a.size.length; ++t)
                gathered_backward_row<T, width>(a, rows, dout, task, h, t, scratch);
    }
};

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
    const int64_t parts = (gathered + queries_per_task - 1) / queries_per_task;
    run_tasks(z.batch * z.heads * parts, attention_work(z), [&](int64_t task) {
        const int64_t begin = tiled + task % parts * queries_per_task, row = task / parts;
        const RowScratchTensors<T> scratch(a.keys.slots);
        run_best<GatheredForward, T>(a, rows, row / z.heads, row % z.heads, begin,
                                     std::min(z.length, begin + queries_per_task), scratch.pointers());
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
    const Rows<T> rows(a, widest<T>());
    const PaddedRows<T> dout(a.dout, z.batch * z.length * z.heads, z.value_dim, widest<T>());
    run_key_tasks(a, 1, [&](const KeyTask<T>& task) {
        if (task.begin < tiled) attend_back_by_tiles(a, task, tiled);
        const RowScratchTensors<T> scratch(a.keys.slots);
        run_best<GatheredBackward, T>(a, rows, dout, task, std::max(tiled, task.begin), scratch.pointers());
    });
}

template void sparse_attention_forward(const AttentionForward<float>&);
template void sparse_attention_forward(const AttentionForward<double>&);
template void sparse_attention_backward(const AttentionBackward<float>&);
template void sparse_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cpu
