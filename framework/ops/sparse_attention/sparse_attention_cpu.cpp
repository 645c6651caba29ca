// Attention over gathered rows, one query of one head at a time:
//
//   scores   `width` selected keys at once: a vector of partial products each, then a tree of shuffles adds
//   up the
//            lanes of all of them together
//   out      sum_s a[s] v[s], rows of v in vectors
//
// Rows are padded with zeros to whole vectors where dh or dv needs it. The order of every sum depends on the
// row's number of keys alone.
#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/dense_attention/key_chunks.h"
#include "framework/ops/dense_attention/vectors.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t queries_per_task = 128;

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

// scores[j] = x . rows[keys[j]] for j < count. Writes whole vectors of scores.
template <class T, int width>
SIEVE_INLINE void gathered_dots(const T* x, const T* rows, int64_t stride, const int32_t* keys, int64_t count,
                                T* scores) {
    using V = Vector<T, width>;
    for (int64_t j = 0; j < count; j += width) {
        const T* row[width];
        for (int i = 0; i < width; ++i) row[i] = rows + keys[std::min(j + i, count - 1)] * stride;
        V part[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) part[i] = V{};
        for (int64_t d = 0; d < stride; d += width) {
            const V xd = load_anywhere<T, width>(x + d);
#pragma GCC unroll 16
            for (int i = 0; i < width; ++i) part[i] += xd * load_anywhere<T, width>(row[i] + d);
        }
        sum_each<T, width>(part);
        at<T, width>(scores + j) = part[0];
    }
}

// to[0..columns) = factor * sum_j weights[j] rows[keys[j]], `vectors` vectors of it from column d on. Four
// partial sums hide the latency of the additions; weights beyond `count` must be 0 up to a whole vector.
template <class T, int width, int vectors>
SIEVE_INLINE void gathered_sum_block(const T* weights, const T* rows, int64_t stride, const int32_t* keys,
                                     int64_t count, T factor, T* to, int64_t columns, int64_t d) {
    using V = Vector<T, width>;
    constexpr int ways = width < 4 ? width : 4;
    V sum[ways][vectors] = {};
    for (int64_t j = 0; j < count; j += ways) {
#pragma GCC unroll 4
        for (int w = 0; w < ways; ++w) {
            const T* row = rows + keys[std::min(j + w, count - 1)] * stride + d;
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
SIEVE_INLINE void gathered_sum(const T* weights, const T* rows, int64_t stride, const int32_t* keys,
                               int64_t count, T factor, T* to, int64_t columns) {
    int64_t d = 0;
    for (; d + 2 * width <= stride; d += 2 * width)
        gathered_sum_block<T, width, 2>(weights, rows, stride, keys, count, factor, to, columns, d);
    if (d < stride)
        gathered_sum_block<T, width, 1>(weights, rows, stride, keys, count, factor, to, columns, d);
}

// sums[keys[j] - begin] += weights[j] * factor * x, rows of `stride`.
template <class T, int width>
SIEVE_INLINE void scatter_add(const T* weights, const int32_t* keys, int64_t count, T factor, const T* x,
                              T* sums, int64_t stride, int64_t begin) {
    using V = Vector<T, width>;
    int64_t d = 0;
    for (; d + 2 * width <= stride; d += 2 * width) {
        const V x0 = load_anywhere<T, width>(x + d) * factor,
                x1 = load_anywhere<T, width>(x + d + width) * factor;
        for (int64_t j = 0; j < count; ++j) {
            T* row = sums + (keys[j] - begin) * stride + d;
            at<T, width>(row) += weights[j] * x0;
            at<T, width>(row + width) += weights[j] * x1;
        }
    }
    if (d == stride) return;
    const V x0 = load_anywhere<T, width>(x + d) * factor;
    for (int64_t j = 0; j < count; ++j)
        at<T, width>(sums + (keys[j] - begin) * stride + d) += weights[j] * x0;
}

// scores[0..count) -> exp(scale * scores - maximum), 0 up to the end of the last vector. Returns maximum and
// sum.
template <class T>
struct RowSum {
    T maximum, sum;
};

template <class T, int width>
SIEVE_INLINE RowSum<T> softmax_row(T* scores, int64_t count, T scale) {
    using V = Vector<T, width>;
    const int64_t padded = round_up(count, width);
    std::fill(scores + count, scores + padded, scores[count - 1]);
    V high = V{} + no_score<T>, sum = {};
    for (int64_t j = 0; j < padded; j += width) {
        at<T, width>(scores + j) *= scale;
        max_into<T, width>(high, load<T, width>(scores + j));
    }
    RowSum<T> r{high[0], 0};
    for (int l = 1; l < width; ++l) r.maximum = std::max<T>(r.maximum, high[l]);
#pragma omp simd
    for (int64_t j = 0; j < padded; ++j) scores[j] = simd_exp(scores[j] - r.maximum);
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
        : q(a.q, a.size.batch * a.size.heads * a.size.length, a.size.dim, width),
          k(a.k, a.size.batch * a.size.kv_heads * a.size.length, a.size.dim, width),
          v(a.v, a.size.batch * a.size.kv_heads * a.size.length, a.size.value_dim, width) {}
};

// out and lse of the queries [begin, end) of one head.
struct GatheredForward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionForward<T>& a, const Rows<T>& rows, int64_t b, int64_t h,
                                 int64_t begin, int64_t end, T* scores) {
        const AttentionSizes& z = a.size;
        const int64_t first_q = (b * z.heads + h) * z.length;
        const int64_t first_kv = (b * z.kv_heads + h / (z.heads / z.kv_heads)) * z.length;
        for (int64_t t = begin; t < end; ++t) {
            const int32_t* keys = a.keys.indices + (b * z.length + t) * a.keys.slots;
            const int64_t count = a.keys.counts[b * z.length + t];
            T* out = a.out + ((b * z.length + t) * z.heads + h) * z.value_dim;
            if (count == 0) {
                std::fill(out, out + z.value_dim, T(0));
                a.lse[first_q + t] = -std::numeric_limits<T>::infinity();
                continue;
            }
            gathered_dots<T, width>(rows.q.row(first_q + t), rows.k.row(first_kv), rows.k.stride(), keys,
                                    count, scores);
            const RowSum<T> r = softmax_row<T, width>(scores, count, a.scale);
            a.lse[first_q + t] = r.maximum + std::log(r.sum);
            gathered_sum<T, width>(scores, rows.v.row(first_kv), rows.v.stride(), keys, count, T(1) / r.sum,
                                   out, z.value_dim);
        }
    }
};

// Scratch of one backward task; sums of dk and dv start at key `begin`.
template <class T>
struct BackwardScratch {
    T *weights, *dscores;  // [slots, whole vectors]
    T *dk, *dv;            // [end - begin, padded]
    int64_t begin, end;    // keys
};

// One query of one head: its dq from the keys in [begin, end), and what it sends to their dk and dv.
template <class T, int width>
SIEVE_INLINE void gathered_backward_row(const AttentionBackward<T>& a, const Rows<T>& rows,
                                        const PaddedRows<T>& dout, int64_t b, int64_t h, int64_t t,
                                        const BackwardScratch<T>& s, T* dq) {
    const AttentionSizes& z = a.size;
    const int64_t q_row = (b * z.heads + h) * z.length + t, out_row = (b * z.length + t) * z.heads + h;
    const int64_t first_kv = (b * z.kv_heads + h / (z.heads / z.kv_heads)) * z.length;
    const int32_t* selected = a.keys.indices + (b * z.length + t) * a.keys.slots;
    const int32_t* last = selected + a.keys.counts[b * z.length + t];
    const int32_t* keys = std::lower_bound(selected, last, s.begin);
    const int64_t count = std::lower_bound(keys, last, s.end) - keys;
    const T *q = rows.q.row(q_row), *dout_row = dout.row(out_row);
    gathered_dots<T, width>(q, rows.k.row(first_kv), rows.k.stride(), keys, count, s.weights);
    gathered_dots<T, width>(dout_row, rows.v.row(first_kv), rows.v.stride(), keys, count, s.dscores);
    const T lse = a.lse[q_row],
            delta = dot(a.dout + out_row * z.value_dim, a.out + out_row * z.value_dim, z.value_dim);
    const int64_t padded = round_up(count, width);
    T* __restrict weights = s.weights;
    T* __restrict dscores = s.dscores;
#pragma omp simd
    for (int64_t j = 0; j < padded; ++j) {
        weights[j] = simd_exp(a.scale * weights[j] - lse);
        dscores[j] = weights[j] * (dscores[j] - delta);
    }
    std::fill(dscores + count, dscores + padded, T(0));
    gathered_sum<T, width>(dscores, rows.k.row(first_kv), rows.k.stride(), keys, count, a.scale, dq, z.dim);
    scatter_add<T, width>(dscores, keys, count, a.scale, q, s.dk, rows.k.stride(), s.begin);
    scatter_add<T, width>(weights, keys, count, T(1), dout_row, s.dv, rows.v.stride(), s.begin);
}

// One key and value head, the keys of one chunk: all of their dk and dv, and what they send to dq.
struct GatheredBackward {
    template <class T, int width>
    static SIEVE_INLINE void run(const AttentionBackward<T>& a, const Rows<T>& rows,
                                 const PaddedRows<T>& dout, int64_t b, int64_t g, const BackwardScratch<T>& s,
                                 T* dq) {
        const AttentionSizes& z = a.size;
        const int64_t group = z.heads / z.kv_heads;
        std::fill(s.dk, s.dk + (s.end - s.begin) * rows.k.stride(), T(0));
        std::fill(s.dv, s.dv + (s.end - s.begin) * rows.v.stride(), T(0));
        for (int64_t h = g * group; h < (g + 1) * group; ++h)
            for (int64_t t = s.begin; t < z.length; ++t)
                gathered_backward_row<T, width>(a, rows, dout, b, h, t, s,
                                                dq + ((b * z.heads + h) * z.length + t) * z.dim);
        store_key_gradients(a, b, g, s.begin, s.end, s.dk, rows.k.stride(), s.dv, rows.v.stride());
    }
};

}  // namespace

template <class T>
void gathered_attention_forward(const AttentionForward<T>& a) {
    const AttentionSizes& z = a.size;
    const Rows<T> rows(a, widest<T>());
    const int64_t parts = (z.length + queries_per_task - 1) / queries_per_task;
    parallel_tasks(z.batch * z.heads * parts, [&](int64_t task) {
        const int64_t begin = task % parts * queries_per_task, row = task / parts;
        const Tensor scores = Tensor::empty(Shape{round_up(a.keys.slots, widest<T>())}, dtype_of<T>);
        run_best<GatheredForward, T>(a, rows, row / z.heads, row % z.heads, begin,
                                     std::min(z.length, begin + queries_per_task), scores.template data<T>());
    });
}

template <class T>
void gathered_attention_backward(const AttentionBackward<T>& a) {
    const AttentionSizes& z = a.size;
    const int64_t slots = round_up(a.keys.slots, widest<T>());
    const Rows<T> rows(a, widest<T>());
    const PaddedRows<T> dout(a.dout, z.batch * z.length * z.heads, z.value_dim, widest<T>());
    const KeyChunks chunks(z);
    const DqParts<T> dq(a.dq, z, chunks);
    parallel_tasks(chunks.count * z.batch * z.kv_heads, [&](int64_t task) {
        const int64_t chunk = task % chunks.count, row = task / chunks.count;
        const int64_t begin = chunks.begin(chunk), end = chunks.begin(chunk + 1);
        const Tensor scores = Tensor::empty(Shape{2, slots}, dtype_of<T>);
        const Tensor dk = Tensor::empty(Shape{end - begin, rows.k.stride()}, dtype_of<T>);
        const Tensor dv = Tensor::empty(Shape{end - begin, rows.v.stride()}, dtype_of<T>);
        const BackwardScratch<T> scratch{.weights = scores.template data<T>(),
                                         .dscores = scores.template data<T>() + slots,
                                         .dk = dk.template data<T>(),
                                         .dv = dv.template data<T>(),
                                         .begin = begin,
                                         .end = end};
        run_best<GatheredBackward, T>(a, rows, dout, row / z.kv_heads, row % z.kv_heads, scratch,
                                      dq.of(chunk));
    });
    dq.add_up();
}

template void gathered_attention_forward(const AttentionForward<float>&);
template void gathered_attention_forward(const AttentionForward<double>&);
template void gathered_attention_backward(const AttentionBackward<float>&);
template void gathered_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cpu
