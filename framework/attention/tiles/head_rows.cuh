// Rows of q, k, v and dout as the CUDA attention kernels read them: aligned to 16 bytes and with the width
// that a kernel is compiled for. Where a tensor is not so already, or where the kernel wants its elements
// rounded, a copy is made that is: read and written once, while the kernels read rows many times.
#pragma once

#include <algorithm>
#include <vector>

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/core/allocator.h"
#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/error.h"
#include "framework/core/tensor.h"

namespace sieve::cuda {

constexpr MemoryUse attention_scratch{"attention's scratch", {SizeKind::batch, SizeKind::length}};

// `count` elements of E on the device.
template <class E>
Tensor device_scratch(int64_t count) {
    const MemoryScope scope(attention_scratch);
    return Tensor::empty(Shape{count * static_cast<int64_t>(sizeof(E))}, DType::uint8, device);
}
template <class E>
E* scratch_data(const Tensor& scratch) {
    return reinterpret_cast<E*>(scratch.data<uint8_t>());
}

template <class E>
struct HeadRows {
    const E* data;
    int64_t batch_stride, head_stride, row_stride;

    __device__ const E* head(int64_t b, int64_t h) const { return data + b * batch_stride + h * head_stride; }
};

// [batch, heads, length, columns]
template <class E>
HeadRows<E> rows_by_head(const E* data, int64_t heads, int64_t length, int64_t columns) {
    return {data, heads * length * columns, length * columns, columns};
}
// [batch, length, heads, columns]
template <class E>
HeadRows<E> rows_by_token(const E* data, int64_t heads, int64_t length, int64_t columns) {
    return {data, length * heads * columns, columns, heads * columns};
}

// How a copy changes an element. The others are in tensor_fragments.cuh.
template <class T>
struct Unrounded {
    using Element = T;
    __device__ static T round(T x) { return x; }
};

template <class Rounding, class T>
struct RowCopy {
    HeadRows<T> from;
    typename Rounding::Element* to;  // [batch, heads, length, width]
    int64_t heads, columns, width;   // zeros from `columns` to `width`
    T factor;
    bool packs;  // all rows of `from` start packs and are whole ones
};

template <class Rounding, class T>
struct RowCopies {
    RowCopy<Rounding, T> copies[4];
    int64_t batch, length;
};

constexpr int row_copy_threads = 256;

template <class Rounding, class T>
__global__ void __launch_bounds__(row_copy_threads)
    copy_rows_kernel(const __grid_constant__ RowCopies<Rounding, T> a) {
    using E = typename Rounding::Element;
    constexpr int n = full_pack<E>, of_source = full_pack<T>;
    const RowCopy<Rounding, T>& c = a.copies[blockIdx.y];
    const int64_t packs = c.width / n, total = a.batch * c.heads * a.length * packs;
    const int64_t i = static_cast<int64_t>(blockIdx.x) * row_copy_threads + threadIdx.x;
    if (i >= total) return;
    const int64_t column = i % packs * n, row = i / packs, head = row / a.length;
    const T* from = c.from.head(head / c.heads, head % c.heads) + row % a.length * c.from.row_stride;
    T x[n] = {};
#pragma unroll
    for (int j = 0; j < n; j += of_source) {
        if (c.packs && column + j < c.columns) {
            const Pack<T, of_source> pack = load_pack<of_source>(from + column + j);
#pragma unroll
            for (int e = 0; e < of_source; ++e) x[j + e] = pack.at[e];
        } else if (!c.packs) {
            for (int e = 0; e < of_source; ++e)
                if (column + j + e < c.columns) x[j + e] = from[column + j + e];
        }
    }
    Pack<E, n> y;
#pragma unroll
    for (int e = 0; e < n; ++e) y.at[e] = Rounding::round(x[e] * c.factor);
    store_pack(c.to + i * n, y);
}

// Asks for rows one by one, then makes all copies by one launch. Owns the copies.
template <class Rounding, class T>
class RowPreparation {
  public:
    using E = typename Rounding::Element;

    RowPreparation(int64_t batch, int64_t length) : work_{.batch = batch, .length = length} {}

    // Rows of `width` elements: `columns` elements times factor, rounded, then zeros.
    HeadRows<E> prepare(const HeadRows<T>& from, int64_t heads, int64_t columns, int64_t width,
                        T factor = 1) {
        const bool packs = reinterpret_cast<uintptr_t>(from.data) % 16 == 0 && columns % full_pack<T> == 0;
        if constexpr (std::is_same_v<Rounding, Unrounded<T>>)
            if (packs && columns == width && factor == T(1)) return from;
        copies_.push_back(device_scratch<E>(work_.batch * heads * work_.length * width));
        E* to = scratch_data<E>(copies_.back());
        work_.copies[copies_.size() - 1] = {from, to, heads, columns, width, factor, packs};
        most_packs_ = std::max(most_packs_, copies_.back().numel() / 16);
        return rows_by_head<E>(to, heads, work_.length, width);
    }

    void launch() const {
        launch_kernel(
            copy_rows_kernel<Rounding, T>,
            {.blocks = dim3(blocks_for(most_packs_, row_copy_threads), static_cast<unsigned>(copies_.size())),
             .threads = dim3(row_copy_threads)},
            work_);
    }

  private:
    RowCopies<Rounding, T> work_;
    std::vector<Tensor> copies_;
    int64_t most_packs_ = 0;
};

// What a backward keeps of a row beside its tensors. Of a row without keys, and of the rows from the length
// to the pitch, lse is +inf: exp(anything finite - lse) is 0 then.
template <class T>
struct alignas(2 * sizeof(T)) RowStats {
    T lse, delta;  // delta = dout . out
};
// For the kernels that compute scores exactly: with what lse lost in rounding.
template <class T>
struct alignas(4 * sizeof(T)) ExactRowStats {
    T lse, delta, rest;

    // e^(score - log-sum-exp), of a score that was rounded as the forward's (rounded_product).
    __device__ T weight(T score) const { return exp((score - lse) - rest); }
};

// a b, rounded, and never fused with an addition: the forward and the backward get the same bits, without
// which the weights of a row would be wrong by a factor e^(1e-7 |a b|).
__device__ inline float rounded_product(float a, float b) {
    return __fmul_rn(a, b);
}
__device__ inline double rounded_product(double a, double b) {
    return __dmul_rn(a, b);
}

// *lse + *rest = log sum_s e^z[s], given the maximum of z and sum_s e^(z[s] - maximum); -inf and 0 of
// nothing.
template <class T>
__device__ void store_log_sum_exp(T maximum, T sum, T* lse, T* rest) {
    const T log_sum = log(sum), value = maximum + log_sum;
    *lse = value;
    *rest = sum > T(0) ? (maximum - value) + log_sum : T(0);
}

constexpr int stats_threads = 256;

template <class T, class Stats>
struct RowStatsArguments {
    const T *dout, *out;      // [batch, length, heads, value_dim]
    const T *lse, *lse_rest;  // [batch, heads, length]
    Stats* stats;             // [batch, heads, pitch]
    T lse_factor;
    int64_t heads, length, value_dim, pitch, rows;  // rows: batch * heads * pitch
};

// One warp a row.
template <class T, class Stats>
__global__ void __launch_bounds__(stats_threads) row_stats_kernel(RowStatsArguments<T, Stats> a) {
    const int64_t row =
        static_cast<int64_t>(blockIdx.x) * (stats_threads / warp_size) + threadIdx.x / warp_size;
    if (row >= a.rows) return;
    const int lane = threadIdx.x % warp_size;
    const int64_t h = row % a.heads, t = row / a.heads % a.pitch, b = row / a.heads / a.pitch;
    Stats& stats = a.stats[(b * a.heads + h) * a.pitch + t];
    T delta = 0, lse = INFINITY, rest = 0;
    if (t < a.length) {
        const int64_t at = ((b * a.length + t) * a.heads + h) * a.value_dim;
        for (int64_t j = lane; j < a.value_dim; j += warp_size) delta += a.dout[at + j] * a.out[at + j];
        delta = warp_reduce(delta, Sum{});
        lse = a.lse[(b * a.heads + h) * a.length + t];
        rest = a.lse_rest[(b * a.heads + h) * a.length + t];
    }
    if (lane != 0) return;
    stats.lse = lse == -T(INFINITY) ? T(INFINITY) : lse * a.lse_factor;
    stats.delta = delta;
    if constexpr (requires { stats.rest; }) stats.rest = rest;
}

// Owns the stats of every row of a backward.
template <class T, class Stats>
class RowStatsOf {
  public:
    RowStatsOf(const AttentionBackward<T>& a, T lse_factor)
        : pitch_((a.size.length + 63) / 64 * 64),
          stats_(device_scratch<Stats>(a.size.batch * a.size.heads * pitch_)) {
        const RowStatsArguments<T, Stats> work{.dout = a.dout,
                                               .out = a.out,
                                               .lse = a.lse,
                                               .lse_rest = a.lse_rest,
                                               .stats = scratch_data<Stats>(stats_),
                                               .lse_factor = lse_factor,
                                               .heads = a.size.heads,
                                               .length = a.size.length,
                                               .value_dim = a.size.value_dim,
                                               .pitch = pitch_,
                                               .rows = a.size.batch * a.size.heads * pitch_};
        launch_kernel(row_stats_kernel<T, Stats>,
                      {.blocks = dim3(blocks_for(work.rows, stats_threads / warp_size)),
                       .threads = dim3(stats_threads)},
                      work);
    }
    const Stats* data() const { return scratch_data<Stats>(stats_); }
    int64_t pitch() const { return pitch_; }

  private:
    int64_t pitch_;
    Tensor stats_;
};

}  // namespace sieve::cuda
