// Rows below tiled_rows go through dense attention's tiles, with the other keys masked out (the choice and
// its reasons: sparse_method.h); the others gather.
//
//   forward, dq   a warp has a row t of `heads` query heads that share keys and values; its teams
//                 (gather_team.cuh) take every teams-th selected key: load k and v, a dot a head, softmax,
//                 add. q and the sums stay in registers; the teams' softmaxes are put together at the end
//   dk, dv        a warp has a key of a kv head and walks the rows that selected it
//                 (selection/inverse_selection.h), heads within rows, its teams taking every teams-th; k, v and
//                 the sums stay in registers
//
// Orders are fixed and no two warps write the same element: deterministic. Heads are the slowest dim of the
// grid, so that what is gathered at one time comes from few heads, whose k and v fit the L2 cache.
//
// Bytes from the L2 cache, a (row, selected key, kv head): forward 4 (dim + value_dim), dq and dk, dv the
// same each; half of that under bf16 precision, where copies of q, k, v and dout rounded to bfloat16 are
// read. FLOPs (2 and 5 dim + value_dim) take a tenth of the time. At 5.5 TB/s (H100), T 8192, k 512, dim 64,
// 16 heads of their own keys, 33 GB: forward 6.1 ms (bf16 3.0 ms), backward twice that.
//
// Rows wider than a team can hold (640 float32, 768 bfloat16, 32 float64) take the `wide` kernels: a row's
// warp goes through its columns in steps of 32 and keeps sums in memory.
#include "framework/attention/gather/gather_kernels.h"
#include "framework/attention/gather/gather_team.cuh"
#include "framework/attention/selection/inverse_selection.h"
#include "framework/attention/tiles/head_rows.cuh"
#include "framework/attention/tiles/tensor_fragments.cuh"
#include "framework/attention/tiles/tile_launches.h"
#include "framework/core/precision.h"

namespace sieve::cuda {
namespace {

constexpr int gather_threads = 128, gather_warps = gather_threads / warp_size;

template <class E, class T>
struct GatherForward {
    HeadRows<E> q, k, v;
    T *out, *lse, *lse_rest;
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
    int64_t first_row;
};

// An InverseSelection of the rows from first_row on, as a kernel reads it.
struct SelectingRows {
    const int32_t* offsets;  // [batch, length + 1]
    const int32_t* entries;  // [batch, most]: t * slots + slot
    int64_t most, slots;
};

template <class E, class T>
struct GatherBackward {
    HeadRows<E> q, k, v, dout;
    const ExactRowStats<T>* stats;  // [batch, heads, stats_pitch]
    int64_t stats_pitch;
    T *dq, *dk, *dv;
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
    int64_t first_row;
    SelectingRows selecting;

    __device__ const ExactRowStats<T>& stats_of(int64_t b, int64_t h, int64_t t) const {
        return stats[(b * size.heads + h) * stats_pitch + t];
    }
};

// A warp's row, and the heads of it that the warp computes: `heads` of those that read kv head g.
struct WarpRow {
    int64_t b, g, t, first_head, end_head;
    const int32_t* selected;
    int count;

    __device__ WarpRow(const AttentionSizes& z, const SelectedKeys& keys, int64_t first_row, int heads) {
        const int64_t group = z.heads / z.kv_heads, parts = (group + heads - 1) / heads;
        const int64_t blocks = (z.length - first_row + gather_warps - 1) / gather_warps;
        const int64_t part = blockIdx.x / blocks;
        g = part / parts % z.kv_heads;
        b = part / parts / z.kv_heads;
        first_head = g * group + part % parts * heads;
        end_head = min(first_head + heads, (g + 1) * group);
        t = first_row + blockIdx.x % blocks * gather_warps + threadIdx.x / warp_size;
        if (t >= z.length) return;
        selected = keys.indices + (b * z.length + t) * keys.slots;
        count = min(keys.counts[b * z.length + t], static_cast<int>(keys.slots));
    }
    // Heads beyond the last are computed like the last one, and not stored.
    __device__ int64_t head(int m) const { return min(first_head + m, end_head - 1); }
    // -1 for a slot without a key that this row may see.
    __device__ int key(int slot) const {
        if (slot >= count) return -1;
        const int key = selected[slot];
        return key >= 0 && key <= t ? key : -1;
    }
};

Grid row_grid(const AttentionSizes& z, int64_t first_row, int heads) {
    const int64_t group = z.heads / z.kv_heads, parts = (group + heads - 1) / heads;
    const int64_t blocks = (z.length - first_row + gather_warps - 1) / gather_warps;
    return {.blocks = dim3(static_cast<unsigned>(z.batch * z.kv_heads * parts * blocks)),
            .threads = dim3(gather_threads)};
}

// Rows that a team loads before it uses them: enough bytes in flight, few enough registers.
template <class Team, int heads>
constexpr int rows_in_flight = Team::columns > 8 ? 1
                               : heads == 1      ? 4
                                                 : 2;

// Blocks that a multiprocessor should hold: as many as registers allow without spilling any.
template <class Team, int heads>
constexpr int gather_blocks = heads > 1           ? 2
                              : Team::columns > 8 ? 3
                                                  : 4;

template <class Team, int heads>
__global__ void __launch_bounds__(gather_threads, gather_blocks<Team, heads>) gather_forward_kernel(
    const __grid_constant__ GatherForward<typename Team::Element, typename Team::Value> a) {
    using T = typename Team::Value;
    constexpr int columns = Team::columns, flight = rows_in_flight<Team, heads>;
    const WarpRow row(a.size, a.keys, a.first_row, heads);
    if (row.t >= a.size.length) return;
    T q[heads][columns], sums[heads][columns] = {}, maximum[heads], sum[heads] = {};
#pragma unroll
    for (int m = 0; m < heads; ++m) {
        Team::values(q[m], Team::load(a.q.head(row.b, row.head(m)) + row.t * a.q.row_stride));
        maximum[m] = -T(INFINITY);
    }
    const auto *k = a.k.head(row.b, row.g), *v = a.v.head(row.b, row.g);
    for (int base = 0; base < row.count; base += Team::teams * flight) {
        int key[flight];
        typename Team::Row keys[flight], values[flight];
#pragma unroll
        for (int u = 0; u < flight; ++u) {
            key[u] = row.key(base + u * Team::teams + Team::index());
            keys[u] = Team::load_if(key[u] >= 0, k + key[u] * a.k.row_stride);
            values[u] = Team::load_if(key[u] >= 0, v + key[u] * a.v.row_stride);
        }
#pragma unroll
        for (int m = 0; m < heads; ++m) {
            T scores[flight], high = maximum[m];
#pragma unroll
            for (int u = 0; u < flight; ++u) {
                scores[u] = rounded_product(a.scale, Team::dot(q[m], keys[u]));
                if (key[u] < 0) scores[u] = -T(INFINITY);
                high = Max{}(high, scores[u]);
            }
            const T finite = high == -T(INFINITY) ? T(0) : high, factor = exp(maximum[m] - finite);
            maximum[m] = high;
            sum[m] *= factor;
#pragma unroll
            for (int c = 0; c < columns; ++c) sums[m][c] *= factor;
#pragma unroll
            for (int u = 0; u < flight; ++u) {
                const T weight = exp(scores[u] - finite);
                sum[m] += weight;
                Team::add(sums[m], weight, values[u]);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < heads; ++m) {
        const T high = Team::merge(maximum[m], Max{});
        const T factor = high == -T(INFINITY) ? T(0) : exp(maximum[m] - high);
        const T total = Team::merge(factor * sum[m], Sum{});
#pragma unroll
        for (int c = 0; c < columns; ++c) sums[m][c] *= factor;
        if (row.first_head + m >= row.end_head) return;
        const int64_t h = row.first_head + m, b = row.b;
        Team::store_merged(a.out + ((b * a.size.length + row.t) * a.size.heads + h) * a.size.value_dim,
                           a.size.value_dim, sums[m], total == 0 ? T(0) : T(1) / total, false);
        const int64_t at = (b * a.size.heads + h) * a.size.length + row.t;
        if (threadIdx.x % warp_size == 0) store_log_sum_exp(high, total, a.lse + at, a.lse_rest + at);
    }
}

template <class Team, int heads>
__global__ void __launch_bounds__(gather_threads, gather_blocks<Team, heads>) gather_queries_kernel(
    const __grid_constant__ GatherBackward<typename Team::Element, typename Team::Value> a) {
    using T = typename Team::Value;
    constexpr int columns = Team::columns, flight = rows_in_flight<Team, heads>;
    const WarpRow row(a.size, a.keys, a.first_row, heads);
    if (row.t >= a.size.length) return;
    T q[heads][columns], dout[heads][columns], dq[heads][columns] = {};
    ExactRowStats<T> stats[heads];
#pragma unroll
    for (int m = 0; m < heads; ++m) {
        Team::values(q[m], Team::load(a.q.head(row.b, row.head(m)) + row.t * a.q.row_stride));
        Team::values(dout[m], Team::load(a.dout.head(row.b, row.head(m)) + row.t * a.dout.row_stride));
        stats[m] = a.stats_of(row.b, row.head(m), row.t);
    }
    const auto *k = a.k.head(row.b, row.g), *v = a.v.head(row.b, row.g);
    for (int base = 0; base < row.count; base += Team::teams * flight) {
        int key[flight];
        typename Team::Row keys[flight], values[flight];
#pragma unroll
        for (int u = 0; u < flight; ++u) {
            key[u] = row.key(base + u * Team::teams + Team::index());
            keys[u] = Team::load_if(key[u] >= 0, k + key[u] * a.k.row_stride);
            values[u] = Team::load_if(key[u] >= 0, v + key[u] * a.v.row_stride);
        }
#pragma unroll
        for (int m = 0; m < heads; ++m)
#pragma unroll
            for (int u = 0; u < flight; ++u) {
                const T score = rounded_product(a.scale, Team::dot(q[m], keys[u]));
                const T dweight = Team::dot(dout[m], values[u]);
                const T weight = key[u] < 0 ? T(0) : stats[m].weight(score);
                Team::add(dq[m], weight * (dweight - stats[m].delta), keys[u]);
            }
    }
#pragma unroll
    for (int m = 0; m < heads; ++m) {
        if (row.first_head + m >= row.end_head) return;
        const int64_t at = (row.b * a.size.heads + row.first_head + m) * a.size.length + row.t;
        Team::store_merged(a.dq + at * a.size.dim, a.size.dim, dq[m], a.scale, false);
    }
}

// A warp's key, and the rows that selected it: items 0, 1, .. are (first row, first head), (first row, second
// head) ..
struct WarpKey {
    int64_t b, g, key, group;
    const int32_t* entries;
    uint32_t slots;
    int items;

    __device__ WarpKey(const AttentionSizes& z, const SelectingRows& selecting) {
        const int64_t blocks = (z.length + gather_warps - 1) / gather_warps, head = blockIdx.x / blocks;
        group = z.heads / z.kv_heads;
        g = head % z.kv_heads;
        b = head / z.kv_heads;
        key = blockIdx.x % blocks * gather_warps + threadIdx.x / warp_size;
        if (key >= z.length) return;
        const int32_t* offsets = selecting.offsets + b * (z.length + 1) + key;
        entries = selecting.entries + b * selecting.most + offsets[0];
        slots = static_cast<uint32_t>(selecting.slots);
        items = (offsets[1] - offsets[0]) * static_cast<int>(group);
    }
    __device__ int64_t head(int item) const { return g * group + item % group; }
    __device__ int64_t row(int item) const { return static_cast<uint32_t>(entries[item / group]) / slots; }
};

Grid key_grid(const AttentionSizes& z) {
    const int64_t blocks = (z.length + gather_warps - 1) / gather_warps;
    return {.blocks = dim3(static_cast<unsigned>(z.batch * z.kv_heads * blocks)),
            .threads = dim3(gather_threads)};
}

template <class Team>
__global__ void __launch_bounds__(gather_threads, gather_blocks<Team, 2>) gather_keys_kernel(
    const __grid_constant__ GatherBackward<typename Team::Element, typename Team::Value> a) {
    using T = typename Team::Value;
    constexpr int columns = Team::columns, flight = rows_in_flight<Team, 1>;
    const WarpKey own(a.size, a.selecting);
    if (own.key >= a.size.length) return;
    T k[columns], v[columns], dk[columns] = {}, dv[columns] = {};
    Team::values(k, Team::load(a.k.head(own.b, own.g) + own.key * a.k.row_stride));
    Team::values(v, Team::load(a.v.head(own.b, own.g) + own.key * a.v.row_stride));
    for (int base = 0; base < own.items; base += Team::teams * flight) {
        typename Team::Row q[flight], dout[flight];
        ExactRowStats<T> stats[flight];
#pragma unroll
        for (int u = 0; u < flight; ++u) {
            const int item = base + u * Team::teams + Team::index();
            const bool there = item < own.items;
            const int64_t t = there ? own.row(item) : 0, h = own.head(item);
            q[u] = Team::load_if(there, a.q.head(own.b, h) + t * a.q.row_stride);
            dout[u] = Team::load_if(there, a.dout.head(own.b, h) + t * a.dout.row_stride);
            stats[u] = there ? a.stats_of(own.b, h, t) : ExactRowStats<T>{T(INFINITY), T(0), T(0)};
        }
#pragma unroll
        for (int u = 0; u < flight; ++u) {
            const T weight = stats[u].weight(rounded_product(a.scale, Team::dot(k, q[u])));
            const T dscore = weight * (Team::dot(v, dout[u]) - stats[u].delta);
            Team::add(dv, weight, dout[u]);
            Team::add(dk, dscore, q[u]);
        }
    }
    const int64_t at = (own.b * a.size.kv_heads + own.g) * a.size.length + own.key;
    const bool tiled = own.key < a.first_row;  // the tiles have written their part
    Team::store_merged(a.dk + at * a.size.dim, a.size.dim, dk, a.scale, tiled);
    Team::store_merged(a.dv + at * a.size.value_dim, a.size.value_dim, dv, T(1), tiled);
}

// x . y of two rows anywhere, by a warp.
template <class T>
__device__ T wide_dot(const T* x, const T* y, int64_t columns) {
    T sum = 0;
    for (int64_t c = threadIdx.x % warp_size; c < columns; c += warp_size) sum += x[c] * y[c];
    return warp_reduce(sum, Sum{});
}

// to = factor * to + sum_j weight[lane j] * (row_of(j)), or without `to` when `fresh`.
template <class T, class RowOf>
__device__ void add_wide_rows(T* to, int64_t columns, bool fresh, T factor, T weight, int rows,
                              const RowOf& row_of) {
    for (int64_t base = 0; base < columns; base += warp_size) {
        const int64_t c = base + threadIdx.x % warp_size;
        T sum = fresh || c >= columns ? T(0) : factor * to[c];
        for (int j = 0; j < rows; ++j) {
            const T* row = row_of(j);
            const T w = __shfl_sync(whole_warp, weight, j);
            if (row && c < columns) sum += w * row[c];
        }
        if (c < columns) to[c] = sum;
    }
}

template <class T>
__device__ void fill_wide_row(T* to, int64_t columns) {
    for (int64_t c = threadIdx.x % warp_size; c < columns; c += warp_size) to[c] = 0;
}

// Lane j of the warp has the key of slot base + j.
template <class T>
__global__ void __launch_bounds__(gather_threads, 4)
    wide_forward_kernel(const __grid_constant__ GatherForward<T, T> a) {
    const WarpRow row(a.size, a.keys, a.first_row, 1);
    if (row.t >= a.size.length) return;
    const int lane = threadIdx.x % warp_size;
    const T* q = a.q.head(row.b, row.first_head) + row.t * a.q.row_stride;
    const T *k = a.k.head(row.b, row.g), *v = a.v.head(row.b, row.g);
    T* out = a.out + ((row.b * a.size.length + row.t) * a.size.heads + row.first_head) * a.size.value_dim;
    T maximum = -T(INFINITY), sum = 0;
    for (int base = 0; base < row.count; base += warp_size) {
        const int keys = min(warp_size, row.count - base);
        const int key = row.key(base + lane);
        T score = -T(INFINITY);
        for (int j = 0; j < keys; ++j) {
            const int s = __shfl_sync(whole_warp, key, j);
            const T dot = s < 0 ? T(0) : wide_dot(q, k + s * a.k.row_stride, a.size.dim);
            if (lane == j && s >= 0) score = rounded_product(a.scale, dot);
        }
        const T high = Max{}(maximum, warp_reduce(score, Max{}));
        const T finite = high == -T(INFINITY) ? T(0) : high, factor = exp(maximum - finite);
        const T weight = exp(score - finite);
        sum = factor * sum + warp_reduce(weight, Sum{});
        maximum = high;
        add_wide_rows(out, a.size.value_dim, base == 0, factor, weight, keys, [&](int j) {
            const int s = __shfl_sync(whole_warp, key, j);
            return s < 0 ? nullptr : v + s * a.v.row_stride;
        });
    }
    const T inverse = sum == 0 ? T(0) : T(1) / sum;
    for (int64_t c = lane; c < a.size.value_dim; c += warp_size)
        out[c] = row.count > 0 ? inverse * out[c] : T(0);
    const int64_t at = (row.b * a.size.heads + row.first_head) * a.size.length + row.t;
    if (lane == 0) store_log_sum_exp(maximum, sum, a.lse + at, a.lse_rest + at);
}

template <class T>
__global__ void __launch_bounds__(gather_threads, 4)
    wide_queries_kernel(const __grid_constant__ GatherBackward<T, T> a) {
    const WarpRow row(a.size, a.keys, a.first_row, 1);
    if (row.t >= a.size.length) return;
    const int lane = threadIdx.x % warp_size;
    const int64_t h = row.first_head;
    const T *q = a.q.head(row.b, h) + row.t * a.q.row_stride,
            *dout = a.dout.head(row.b, h) + row.t * a.dout.row_stride;
    const T *k = a.k.head(row.b, row.g), *v = a.v.head(row.b, row.g);
    T* dq = a.dq + ((row.b * a.size.heads + h) * a.size.length + row.t) * a.size.dim;
    const ExactRowStats<T> stats = a.stats_of(row.b, h, row.t);
    if (row.count <= 0) fill_wide_row(dq, a.size.dim);
    for (int base = 0; base < row.count; base += warp_size) {
        const int keys = min(warp_size, row.count - base);
        const int key = row.key(base + lane);
        T dscore = 0;
        for (int j = 0; j < keys; ++j) {
            const int s = __shfl_sync(whole_warp, key, j);
            if (s < 0) continue;
            const T weight =
                stats.weight(rounded_product(a.scale, wide_dot(q, k + s * a.k.row_stride, a.size.dim)));
            const T dweight = wide_dot(dout, v + s * a.v.row_stride, a.size.value_dim);
            if (lane == j) dscore = a.scale * weight * (dweight - stats.delta);
        }
        add_wide_rows(dq, a.size.dim, base == 0, T(1), dscore, keys, [&](int j) {
            const int s = __shfl_sync(whole_warp, key, j);
            return s < 0 ? nullptr : k + s * a.k.row_stride;
        });
    }
}

template <class T>
__global__ void __launch_bounds__(gather_threads, 4)
    wide_keys_kernel(const __grid_constant__ GatherBackward<T, T> a) {
    const WarpKey own(a.size, a.selecting);
    if (own.key >= a.size.length) return;
    const int lane = threadIdx.x % warp_size;
    const int64_t at = (own.b * a.size.kv_heads + own.g) * a.size.length + own.key;
    const T *k = a.k.head(own.b, own.g) + own.key * a.k.row_stride,
            *v = a.v.head(own.b, own.g) + own.key * a.v.row_stride;
    T *dk = a.dk + at * a.size.dim, *dv = a.dv + at * a.size.value_dim;
    const bool tiled = own.key < a.first_row;
    if (!tiled) fill_wide_row(dk, a.size.dim);
    if (!tiled) fill_wide_row(dv, a.size.value_dim);
    const auto q_row = [&](int item) {
        return a.q.head(own.b, own.head(item)) + own.row(item) * a.q.row_stride;
    };
    const auto dout_row = [&](int item) {
        return a.dout.head(own.b, own.head(item)) + own.row(item) * a.dout.row_stride;
    };
    for (int base = 0; base < own.items; base += warp_size) {
        const int items = min(warp_size, own.items - base);
        T own_weight = 0, own_dscore = 0;
        for (int j = 0; j < items; ++j) {
            const ExactRowStats<T> stats = a.stats_of(own.b, own.head(base + j), own.row(base + j));
            const T weight = stats.weight(rounded_product(a.scale, wide_dot(k, q_row(base + j), a.size.dim)));
            const T dweight = wide_dot(v, dout_row(base + j), a.size.value_dim);
            if (lane == j) own_weight = weight;
            if (lane == j) own_dscore = a.scale * weight * (dweight - stats.delta);
        }
        add_wide_rows(dv, a.size.value_dim, false, T(1), own_weight, items,
                      [&](int j) { return dout_row(base + j); });
        add_wide_rows(dk, a.size.dim, false, T(1), own_dscore, items, [&](int j) { return q_row(base + j); });
    }
}

// Calls f.template operator()<Rounding, Team>() with the narrowest team for rows of `columns`; Team is void
// when they are wider than any.
template <class T, class F>
void with_team(int64_t columns, F&& f) {
    if constexpr (std::is_same_v<T, double>) {
        if (columns <= 32) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 8, 2>>();
    } else {
        using E = Bf16Fragments::Element;
        if (precision() == Precision::bf16) {
            if (columns <= 32) return f.template operator()<Bf16Fragments, GatherTeam<E, T, 4, 1>>();
            if (columns <= 64) return f.template operator()<Bf16Fragments, GatherTeam<E, T, 8, 1>>();
            if (columns <= 128) return f.template operator()<Bf16Fragments, GatherTeam<E, T, 16, 1>>();
            if (columns <= 256) return f.template operator()<Bf16Fragments, GatherTeam<E, T, 32, 1>>();
            if (columns <= 768) return f.template operator()<Bf16Fragments, GatherTeam<E, T, 32, 3>>();
        }
        if (columns <= 32) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 8, 1>>();
        if (columns <= 64) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 8, 2>>();
        if (columns <= 128) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 16, 2>>();
        if (columns <= 256) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 32, 2>>();
        if (columns <= 640) return f.template operator()<Unrounded<T>, GatherTeam<T, T, 32, 5>>();
    }
    f.template operator()<Unrounded<T>, void>();
}

// Calls f.template operator()<heads>(): how many heads that share keys a warp computes together.
template <class Team, class F>
void with_heads(const AttentionSizes& z, F&& f) {
    if (z.heads == z.kv_heads) return f.template operator()<1>();
    f.template operator()<(Team::columns > 8 ? 2 : 4)>();
}

template <class Rounding, class Team, class T>
void gather_forward(const AttentionForward<T>& a, int64_t first_row) {
    using E = typename Team::Element;
    const AttentionSizes& z = a.size;
    RowPreparation<Rounding, T> rows(z.batch, z.length);
    constexpr int64_t width = Team::width;
    const GatherForward<E, T> work{
        .q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, width),
        .k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, width),
        .v = rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim,
                          width),
        .out = a.out,
        .lse = a.lse,
        .lse_rest = a.lse_rest,
        .scale = a.scale,
        .size = z,
        .keys = a.keys,
        .first_row = first_row};
    rows.launch();
    with_heads<Team>(z, [&]<int heads>() {
        launch_kernel(gather_forward_kernel<Team, heads>, row_grid(z, first_row, heads), work);
    });
}

template <class T>
void wide_forward(const AttentionForward<T>& a, int64_t first_row) {
    const AttentionSizes& z = a.size;
    const GatherForward<T, T> work{.q = rows_by_head(a.q, z.heads, z.length, z.dim),
                                   .k = rows_by_head(a.k, z.kv_heads, z.length, z.dim),
                                   .v = rows_by_head(a.v, z.kv_heads, z.length, z.value_dim),
                                   .out = a.out,
                                   .lse = a.lse,
                                   .lse_rest = a.lse_rest,
                                   .scale = a.scale,
                                   .size = z,
                                   .keys = a.keys,
                                   .first_row = first_row};
    launch_kernel(wide_forward_kernel<T>, row_grid(z, first_row, 1), work);
}

template <class E, class T>
GatherBackward<E, T> gather_backward_arguments(const AttentionBackward<T>& a,
                                               const RowStatsOf<T, ExactRowStats<T>>& stats,
                                               int64_t first_row, const SelectingRows& selecting) {
    return {.stats = stats.data(),
            .stats_pitch = stats.pitch(),
            .dq = a.dq,
            .dk = a.dk,
            .dv = a.dv,
            .scale = a.scale,
            .size = a.size,
            .keys = a.keys,
            .first_row = first_row,
            .selecting = selecting};
}

template <class Rounding, class Team, class T>
void gather_backward(const AttentionBackward<T>& a, int64_t first_row, const SelectingRows& selecting) {
    const AttentionSizes& z = a.size;
    const RowStatsOf<T, ExactRowStats<T>> stats(a, T(1));
    RowPreparation<Rounding, T> rows(z.batch, z.length);
    constexpr int64_t width = Team::width;
    auto work = gather_backward_arguments<typename Team::Element>(a, stats, first_row, selecting);
    work.q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, width);
    work.k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, width);
    work.v =
        rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim, width);
    work.dout =
        rows.prepare(rows_by_token(a.dout, z.heads, z.length, z.value_dim), z.heads, z.value_dim, width);
    rows.launch();
    with_heads<Team>(z, [&]<int heads>() {
        launch_kernel(gather_queries_kernel<Team, heads>, row_grid(z, first_row, heads), work);
    });
    launch_kernel(gather_keys_kernel<Team>, key_grid(z), work);
}

template <class T>
void wide_backward(const AttentionBackward<T>& a, int64_t first_row, const SelectingRows& selecting) {
    const AttentionSizes& z = a.size;
    const RowStatsOf<T, ExactRowStats<T>> stats(a, T(1));
    auto work = gather_backward_arguments<T>(a, stats, first_row, selecting);
    work.q = rows_by_head(a.q, z.heads, z.length, z.dim);
    work.k = rows_by_head(a.k, z.kv_heads, z.length, z.dim);
    work.v = rows_by_head(a.v, z.kv_heads, z.length, z.value_dim);
    work.dout = rows_by_token(a.dout, z.heads, z.length, z.value_dim);
    launch_kernel(wide_queries_kernel<T>, row_grid(z, first_row, 1), work);
    launch_kernel(wide_keys_kernel<T>, key_grid(z), work);
}

}  // namespace

template <class T>
void sparse_attention_forward(const AttentionForward<T>& a) {
    const int64_t tiled = std::min(a.size.length, a.tiled_rows);
    if (tiled > 0) attend_by_tiles(a, tiled);
    if (tiled == a.size.length) return;
    with_team<T>(std::max(a.size.dim, a.size.value_dim), [&]<class Rounding, class Team>() {
        if constexpr (std::is_void_v<Team>)
            wide_forward(a, tiled);
        else
            gather_forward<Rounding, Team>(a, tiled);
    });
}

template <class T>
void sparse_attention_backward(const AttentionBackward<T>& a) {
    const int64_t tiled = std::min(a.size.length, a.tiled_rows);
    if (tiled > 0) attend_back_by_tiles(a, tiled);
    if (tiled == a.size.length) return;
    const AttentionSizes& z = a.size;
    const MemoryScope scope(attention_scratch);
    const InverseSelection inverse = invert_selection(a.keys, z.batch, z.length, tiled);
    const SelectingRows selecting{.offsets = inverse.offsets.data<int32_t>(),
                                  .entries = inverse.entries.data<int32_t>(),
                                  .most = (z.length - tiled) * a.keys.slots,
                                  .slots = a.keys.slots};
    with_team<T>(std::max(a.size.dim, a.size.value_dim), [&]<class Rounding, class Team>() {
        if constexpr (std::is_void_v<Team>)
            wide_backward(a, tiled, selecting);
        else
            gather_backward<Rounding, Team>(a, tiled, selecting);
    });
}

template void sparse_attention_forward(const AttentionForward<float>&);
template void sparse_attention_forward(const AttentionForward<double>&);
template void sparse_attention_backward(const AttentionBackward<float>&);
template void sparse_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cuda
