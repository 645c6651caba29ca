// The exact kernels: float32 under fp32 precision (and heads that the tensor-core kernels do not cover), and
// float64. Tiles as in exact_tiles.cuh.
//
//   forward    a block owns a tile of queries: q stays in shared memory, tiles of k and v pass through it (v
//              while the scores are computed), the weights take the place of k; out is summed in registers
//   backward   one kernel twice, for what owns a tile, and what visits it:
//
//                owns     shared         visits                  sums in registers
//                keys     k, v           q, dout of each head    dv += a dout,  dk += dz q
//                queries  q, dout        k, v                    dq += dz k
//
// A block alone writes what it owns, in a fixed order: deterministic. The widths are 32, 64 and 128 in float
// and 32 in double; beyond, the `wide` kernels go through a row in chunks and keep their sums in out, dq, dk
// and dv themselves, between tiles (a tile's products outweigh this traffic).
//
// Multiply-adds a score (a pair of query and key): forward dim + value_dim, backward 4 dim + 3 value_dim
// (3 dim + 2 value_dim if nothing were computed twice). An H100 does 33.5 T a second; at 80 % of that T 4096,
// dim 64, 16 heads take 0.64 ms forward and 2.2 ms backward. Bytes do not matter: each block reads k and v (q
// and dout) from the L2 cache once for 64 of its rows.
#include "framework/attention/tiles/exact_tiles.cuh"
#include "framework/attention/tiles/exact_tiles.h"
#include "framework/attention/tiles/head_rows.cuh"

namespace sieve::cuda {
namespace {

template <class T>
struct ExactForward {
    HeadRows<T> q, k, v;
    T *out, *lse, *lse_rest;
    T scale;
    AttentionSizes size;
    Attended attended;
};

template <class T>
struct ExactBackward {
    HeadRows<T> q, k, v, dout;
    const ExactRowStats<T>* stats;  // [batch, heads, stats_pitch]
    int64_t stats_pitch;
    T *dq, *dk, *dv;
    T scale;
    AttentionSizes size;
    Attended attended;
};

// scores -> scale * scores, -inf where the query does not attend to the key.
template <class T>
__device__ void scale_scores(T (&scores)[ExactScoreTile<T>::each][ExactScoreTile<T>::each], T scale,
                             const Attended& attended, int first_query, int first_key, bool masked) {
    using Tile = ExactScoreTile<T>;
#pragma unroll
    for (int i = 0; i < Tile::each; ++i)
#pragma unroll
        for (int j = 0; j < Tile::each; ++j) {
            scores[i][j] = rounded_product(scale, scores[i][j]);
            if (masked && !attended(first_query + Tile::row(i), first_key + Tile::column(j)))
                scores[i][j] = -T(INFINITY);
        }
}

// to[column] = factor * this thread's columns of it, below `columns`.
template <class T, int width>
__device__ void store_columns(T* to, int64_t columns, const T (&values)[width / side], T factor) {
    using Columns = ExactColumns<T, width>;
#pragma unroll
    for (int p = 0; p < Columns::packs; ++p)
#pragma unroll
        for (int c = 0; c < Columns::pack; ++c)
            if (Columns::first(p) + c < columns)
                to[Columns::first(p) + c] = factor * values[p * Columns::pack + c];
}

template <class T, int width>
__device__ void load_columns(T (&values)[width / side], const T* from, int64_t columns) {
    using Columns = ExactColumns<T, width>;
#pragma unroll
    for (int p = 0; p < Columns::packs; ++p)
#pragma unroll
        for (int c = 0; c < Columns::pack; ++c)
            values[p * Columns::pack + c] =
                Columns::first(p) + c < columns ? from[Columns::first(p) + c] : T(0);
}

template <int each, int columns, class T>
__device__ void scale_rows(T (&sums)[each][columns], const T (&factor)[each]) {
#pragma unroll
    for (int i = 0; i < each; ++i)
#pragma unroll
        for (int c = 0; c < columns; ++c) sums[i][c] *= factor[i];
}

// A block's tile of queries of one head. The last tiles, which have the most keys, come first.
template <class T>
struct QueryTile {
    int64_t b, h, g;
    int first;

    __device__ explicit QueryTile(const AttentionSizes& size)
        : b(blockIdx.x / size.heads),
          h(blockIdx.x % size.heads),
          g(h / (size.heads / size.kv_heads)),
          first((gridDim.y - 1 - blockIdx.y) * ExactScoreTile<T>::size) {}
};

// Where the rows of one query head's out begin, and how far apart they are.
template <class T>
struct OutRows {
    T* first;
    int64_t stride;

    __device__ OutRows(T* out, const AttentionSizes& size, int64_t b, int64_t h)
        : first(out + (b * size.length * size.heads + h) * size.value_dim),
          stride(size.heads * size.value_dim) {}
    __device__ T* row(int t) const { return first + t * stride; }
};

// Returns the factors that make the sums of a thread's rows their out, and writes their lse.
template <class T>
__device__ void finish_rows(const ExactForward<T>& a, const QueryTile<T>& tile,
                            const ExactSoftmax<T>& softmax, T (&factor)[ExactScoreTile<T>::each]) {
    using Tile = ExactScoreTile<T>;
    T* lse = a.lse + (tile.b * a.size.heads + tile.h) * a.size.length;
    T* lse_rest = a.lse_rest + (tile.b * a.size.heads + tile.h) * a.size.length;
#pragma unroll
    for (int i = 0; i < Tile::each; ++i) {
        const T sum = reduce_row(softmax.sum[i], Sum{});
        const int t = tile.first + Tile::row(i);
        factor[i] = sum == 0 ? T(0) : T(1) / sum;
        if (Tile::x() == 0 && t < a.attended.rows)
            store_log_sum_exp(softmax.maximum[i], sum, lse + t, lse_rest + t);
    }
}

template <class T, int width>
__global__ void __launch_bounds__(exact_threads)
    exact_forward_kernel(const __grid_constant__ ExactForward<T> a) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each, size = Tile::size, pitch = Tile::template pitch<width>;
    T *q = dynamic_shared<T>(), *v = q + size * pitch, *k = v + size * pitch, *weights = k;
    const QueryTile<T> tile(a.size);
    const Attended attended = a.attended.of_batch(tile.b);
    const int rows = attended.rows;
    load_tile<exact_threads, size, width>(q, pitch, a.q.head(tile.b, tile.h), a.q.row_stride, tile.first,
                                          rows);
    T sums[each][width / side] = {}, factor[each];
    ExactSoftmax<T> softmax;
    for (int s = 0; s <= tile.first; s += size) {
        if (!attended.any(tile.first, size, s, size)) continue;
        __syncthreads();  // k and v are done with
        load_tile<exact_threads, size, width>(k, pitch, a.k.head(tile.b, tile.g), a.k.row_stride, s, rows);
        cp_async_commit();
        load_tile<exact_threads, size, width>(v, pitch, a.v.head(tile.b, tile.g), a.v.row_stride, s, rows);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        T scores[each][each] = {};
        add_dots<T, width>(scores, q, k);
        scale_scores(scores, a.scale, attended, tile.first, s, attended.words || s == tile.first);
        softmax.add(scores, factor);
        scale_rows(sums, factor);
        cp_async_wait<0>();
        __syncthreads();  // v is there, k is done with
        store_weights(weights, scores);
        add_weighted<T, width>(sums, weights, v);
    }
    finish_rows(a, tile, softmax, factor);
    const OutRows<T> out(a.out, a.size, tile.b, tile.h);
#pragma unroll
    for (int i = 0; i < each; ++i) {
        const int t = tile.first + Tile::row(i);
        if (t < rows) store_columns<T, width>(out.row(t), a.size.value_dim, sums[i], factor[i]);
    }
}

template <class T>
constexpr int wide_chunk = 16 * full_pack<T>;

// sum += (this tile's part of the sums that lie at `first`), a chunk of columns. `fresh`: the sums are still
// 0.
template <class T, int width>
__device__ void add_to_rows(T* first, int64_t stride, int64_t columns, int rows, bool fresh,
                            const T (&factor)[ExactScoreTile<T>::each], const T* weights, const T* values) {
    using Tile = ExactScoreTile<T>;
    T sums[Tile::each][width / side] = {};
    if (!fresh)
#pragma unroll
        for (int i = 0; i < Tile::each; ++i)
            if (Tile::row(i) < rows) load_columns<T, width>(sums[i], first + Tile::row(i) * stride, columns);
    scale_rows(sums, factor);
    add_weighted<T, width>(sums, weights, values);
#pragma unroll
    for (int i = 0; i < Tile::each; ++i)
        if (Tile::row(i) < rows)
            store_columns<T, width>(first + Tile::row(i) * stride, columns, sums[i], T(1));
}

// scores += a b^T of two tiles in memory, chunk by chunk through shared memory.
template <class T, int width>
__device__ void add_wide_dots(T (&scores)[ExactScoreTile<T>::each][ExactScoreTile<T>::each], const T* a,
                              int64_t a_stride, int a_first, const T* b, int64_t b_stride, int b_first,
                              int rows, int64_t columns, T* a_chunk, T* b_chunk) {
    using Tile = ExactScoreTile<T>;
    constexpr int pitch = Tile::template pitch<width>;
    for (int64_t column = 0; column < columns; column += width) {
        __syncthreads();  // the chunks are done with
        load_tile<exact_threads, Tile::size, width>(a_chunk, pitch, a, a_stride, a_first, rows, column);
        load_tile<exact_threads, Tile::size, width>(b_chunk, pitch, b, b_stride, b_first, rows, column);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        add_dots<T, width>(scores, a_chunk, b_chunk);
    }
}

// The rows at `to` += weights times a tile of `values`, chunk by chunk.
template <class T, int width>
__device__ void add_wide_weighted(T* to, int64_t to_stride, int to_rows, bool fresh,
                                  const T (&factor)[ExactScoreTile<T>::each], const T* weights,
                                  const T* values, int64_t stride, int first, int rows, int64_t columns,
                                  T* chunk) {
    using Tile = ExactScoreTile<T>;
    constexpr int pitch = Tile::template pitch<width>;
    for (int64_t column = 0; column < columns; column += width) {
        __syncthreads();
        load_tile<exact_threads, Tile::size, width>(chunk, pitch, values, stride, first, rows, column);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        add_to_rows<T, width>(to + column, to_stride, columns - column, to_rows, fresh, factor, weights,
                              chunk);
    }
}

template <class T, int width>
__device__ void fill_wide_rows(T* to, int64_t stride, int rows, int64_t columns) {
    const T zeros[width / side] = {};
    for (int i = 0; i < ExactScoreTile<T>::each; ++i)
        for (int64_t column = 0; column < columns && ExactScoreTile<T>::row(i) < rows; column += width)
            store_columns<T, width>(to + ExactScoreTile<T>::row(i) * stride + column, columns - column, zeros,
                                    T(1));
}

template <class T>
__global__ void __launch_bounds__(exact_threads)
    exact_forward_wide_kernel(const __grid_constant__ ExactForward<T> a) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each, size = Tile::size, width = wide_chunk<T>,
                  pitch = Tile::template pitch<width>;
    T *x = dynamic_shared<T>(), *y = x + size * pitch, *weights = y + size * pitch;
    const QueryTile<T> tile(a.size);
    const Attended attended = a.attended.of_batch(tile.b);
    const int rows = attended.rows;
    const OutRows<T> out(a.out, a.size, tile.b, tile.h);
    T factor[each];
    ExactSoftmax<T> softmax;
    bool fresh = true;
    for (int s = 0; s <= tile.first; s += size) {
        if (!attended.any(tile.first, size, s, size)) continue;
        T scores[each][each] = {};
        add_wide_dots<T, width>(scores, a.q.head(tile.b, tile.h), a.q.row_stride, tile.first,
                                a.k.head(tile.b, tile.g), a.k.row_stride, s, rows, a.size.dim, x, y);
        scale_scores(scores, a.scale, attended, tile.first, s, attended.words || s == tile.first);
        softmax.add(scores, factor);
        store_weights(weights, scores);
        add_wide_weighted<T, width>(out.row(tile.first), out.stride, rows - tile.first, fresh, factor,
                                    weights, a.v.head(tile.b, tile.g), a.v.row_stride, s, rows,
                                    a.size.value_dim, y);
        fresh = false;
    }
    finish_rows(a, tile, softmax, factor);
    if (fresh) fill_wide_rows<T, width>(out.row(tile.first), out.stride, rows - tile.first, a.size.value_dim);
    for (int i = 0; i < each && !fresh; ++i) {
        const int t = tile.first + Tile::row(i);
        for (int64_t column = 0; column < a.size.value_dim && t < rows; column += width) {
            T values[width / side];
            load_columns<T, width>(values, out.row(t) + column, a.size.value_dim - column);
            store_columns<T, width>(out.row(t) + column, a.size.value_dim - column, values, factor[i]);
        }
    }
}

// What a block of a backward kernel owns and what visits it.
template <class T, bool owns_keys>
struct OwnTile {
    int64_t b, head;                  // head: of k and v when keys are owned, else of q
    int64_t first_visitor, visitors;  // heads
    int first;
    int visit_begin, visit_end;  // rows

    __device__ OwnTile(const AttentionSizes& size, int rows) {
        const int64_t heads = owns_keys ? size.kv_heads : size.heads, group = size.heads / size.kv_heads;
        b = blockIdx.x / heads;
        head = blockIdx.x % heads;
        first_visitor = owns_keys ? head * group : head / group;
        visitors = owns_keys ? group : 1;
        // The tiles with the most visitors come first.
        first = (owns_keys ? blockIdx.y : gridDim.y - 1 - blockIdx.y) * ExactScoreTile<T>::size;
        visit_begin = owns_keys ? first : 0;
        visit_end = owns_keys ? rows : first + 1;
    }
};

// scores -> a, dscores (dout . v) -> scale * dz.
template <class T, bool owns_keys>
__device__ void softmax_backward(T (&scores)[ExactScoreTile<T>::each][ExactScoreTile<T>::each],
                                 T (&dscores)[ExactScoreTile<T>::each][ExactScoreTile<T>::each], T scale,
                                 const ExactRowStats<T>* stats, const Attended& attended, int own,
                                 int visitor, bool masked) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each;
    ExactRowStats<T> query_stats[each];
#pragma unroll
    for (int i = 0; i < each; ++i)
        query_stats[i] = stats[owns_keys ? visitor + Tile::column(i) : own + Tile::row(i)];
#pragma unroll
    for (int i = 0; i < each; ++i)
#pragma unroll
        for (int j = 0; j < each; ++j) {
            const int row = own + Tile::row(i), column = visitor + Tile::column(j);
            const ExactRowStats<T>& s = query_stats[owns_keys ? j : i];
            const bool attends = !masked || (owns_keys ? attended(column, row) : attended(row, column));
            scores[i][j] = attends ? s.weight(rounded_product(scale, scores[i][j])) : T(0);
            dscores[i][j] = scale * scores[i][j] * (dscores[i][j] - s.delta);
        }
}

template <class T, int width, bool owns_keys>
__global__ void __launch_bounds__(exact_threads)
    exact_backward_kernel(const __grid_constant__ ExactBackward<T> a) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each, size = Tile::size, pitch = Tile::template pitch<width>;
    T *own0 = dynamic_shared<T>(), *own1 = own0 + size * pitch, *visit0 = own1 + size * pitch,
      *visit1 = visit0 + size * pitch, *weights = visit1 + size * pitch;
    const int rows = a.attended.rows;
    const OwnTile<T, owns_keys> own(a.size, rows);
    const Attended attended = a.attended.of_batch(own.b);
    const HeadRows<T>&x0 = owns_keys ? a.k : a.q, &x1 = owns_keys ? a.v : a.dout;
    const HeadRows<T>&y0 = owns_keys ? a.q : a.k, &y1 = owns_keys ? a.dout : a.v;
    load_tile<exact_threads, size, width>(own0, pitch, x0.head(own.b, own.head), x0.row_stride, own.first,
                                          rows);
    load_tile<exact_threads, size, width>(own1, pitch, x1.head(own.b, own.head), x1.row_stride, own.first,
                                          rows);
    T sums0[each][width / side] = {}, sums1[each][width / side] = {};
    for (int64_t h = own.first_visitor; h < own.first_visitor + own.visitors; ++h) {
        const ExactRowStats<T>* stats =
            a.stats + (own.b * a.size.heads + (owns_keys ? h : own.head)) * a.stats_pitch;
        for (int visitor = own.visit_begin; visitor < own.visit_end; visitor += size) {
            if (!attended.any(own.first, size, visitor, size)) continue;
            __syncthreads();  // the last visitor is done with
            load_tile<exact_threads, size, width>(visit0, pitch, y0.head(own.b, h), y0.row_stride, visitor,
                                                  rows);
            load_tile<exact_threads, size, width>(visit1, pitch, y1.head(own.b, h), y1.row_stride, visitor,
                                                  rows);
            cp_async_commit();
            cp_async_wait<0>();
            __syncthreads();
            T scores[each][each] = {}, dscores[each][each] = {};
            add_dots<T, width>(scores, own0, visit0);
            add_dots<T, width>(dscores, own1, visit1);
            softmax_backward<T, owns_keys>(scores, dscores, a.scale, stats, attended, own.first, visitor,
                                           attended.words || visitor == own.first);
            if constexpr (owns_keys) {
                store_weights(weights, scores);
                add_weighted<T, width>(sums1, weights, visit1);
            }
            store_weights(weights, dscores);
            add_weighted<T, width>(sums0, weights, visit0);
        }
    }
    const int64_t heads = owns_keys ? a.size.kv_heads : a.size.heads;
#pragma unroll
    for (int i = 0; i < each; ++i) {
        const int row = own.first + Tile::row(i);
        const int64_t at = (own.b * heads + own.head) * a.size.length + row;
        if (row >= rows) continue;
        store_columns<T, width>((owns_keys ? a.dk : a.dq) + at * a.size.dim, a.size.dim, sums0[i], T(1));
        if (owns_keys)
            store_columns<T, width>(a.dv + at * a.size.value_dim, a.size.value_dim, sums1[i], T(1));
    }
}

template <class T, bool owns_keys>
__global__ void __launch_bounds__(exact_threads)
    exact_backward_wide_kernel(const __grid_constant__ ExactBackward<T> a) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each, size = Tile::size, width = wide_chunk<T>,
                  pitch = Tile::template pitch<width>;
    T *x = dynamic_shared<T>(), *y = x + size * pitch, *weights = y + size * pitch;
    const int rows = a.attended.rows;
    const OwnTile<T, owns_keys> own(a.size, rows);
    const Attended attended = a.attended.of_batch(own.b);
    const HeadRows<T>&x0 = owns_keys ? a.k : a.q, &x1 = owns_keys ? a.v : a.dout;
    const HeadRows<T>&y0 = owns_keys ? a.q : a.k, &y1 = owns_keys ? a.dout : a.v;
    const T *own0 = x0.head(own.b, own.head), *own1 = x1.head(own.b, own.head);
    const int64_t dim = a.size.dim, value_dim = a.size.value_dim;
    const int64_t at =
        (own.b * (owns_keys ? a.size.kv_heads : a.size.heads) + own.head) * a.size.length + own.first;
    T *sums0 = (owns_keys ? a.dk : a.dq) + at * dim, *sums1 = a.dv + at * value_dim;
    T one[each];
    for (int i = 0; i < each; ++i) one[i] = 1;
    bool fresh = true;
    for (int64_t h = own.first_visitor; h < own.first_visitor + own.visitors; ++h) {
        const ExactRowStats<T>* stats =
            a.stats + (own.b * a.size.heads + (owns_keys ? h : own.head)) * a.stats_pitch;
        const T *visit0 = y0.head(own.b, h), *visit1 = y1.head(own.b, h);
        for (int visitor = own.visit_begin; visitor < own.visit_end; visitor += size) {
            if (!attended.any(own.first, size, visitor, size)) continue;
            T scores[each][each] = {}, dscores[each][each] = {};
            add_wide_dots<T, width>(scores, own0, x0.row_stride, own.first, visit0, y0.row_stride, visitor,
                                    rows, dim, x, y);
            add_wide_dots<T, width>(dscores, own1, x1.row_stride, own.first, visit1, y1.row_stride, visitor,
                                    rows, value_dim, x, y);
            softmax_backward<T, owns_keys>(scores, dscores, a.scale, stats, attended, own.first, visitor,
                                           attended.words || visitor == own.first);
            if constexpr (owns_keys) {
                store_weights(weights, scores);
                add_wide_weighted<T, width>(sums1, value_dim, rows - own.first, fresh, one, weights, visit1,
                                            y1.row_stride, visitor, rows, value_dim, y);
            }
            store_weights(weights, dscores);
            add_wide_weighted<T, width>(sums0, dim, rows - own.first, fresh, one, weights, visit0,
                                        y0.row_stride, visitor, rows, dim, y);
            fresh = false;
        }
    }
    if (!fresh) return;
    fill_wide_rows<T, width>(sums0, dim, rows - own.first, dim);
    if (owns_keys) fill_wide_rows<T, width>(sums1, value_dim, rows - own.first, value_dim);
}

// Calls f.template operator()<width>() with the narrowest width that the kernels were compiled for, or 0:
// wide.
template <class T, class F>
void with_width(int64_t columns, F&& f) {
    if (columns <= 32) return f.template operator()<32>();
    if constexpr (sizeof(T) == sizeof(float)) {
        if (columns <= 64) return f.template operator()<64>();
        if (columns <= 128) return f.template operator()<128>();
    }
    f.template operator()<0>();
}

// Columns that rows of `columns` are padded to: kernels of width 0 take whole chunks.
template <class T, int width>
int64_t padded(int64_t columns) {
    if (width > 0) return width;
    return (columns + wide_chunk<T> - 1) / wide_chunk<T> * wide_chunk<T>;
}

template <class T>
Grid exact_grid(int64_t heads, const Attended& attended, int width, int tiles) {
    constexpr int size = ExactScoreTile<T>::size, each = ExactScoreTile<T>::each;
    const int shared = size * (tiles * (width + each) + ExactScoreTile<T>::weights_pitch);
    return {.blocks = dim3(static_cast<unsigned>(heads), blocks_for(attended.rows, size)),
            .threads = dim3(exact_threads),
            .shared_bytes = static_cast<size_t>(shared) * sizeof(T)};
}

}  // namespace

template <class T>
void exact_tiles_forward(const AttentionForward<T>& a, const Attended& attended) {
    const AttentionSizes& z = a.size;
    with_width<T>(std::max(z.dim, z.value_dim), [&]<int width>() {
        RowPreparation<Unrounded<T>, T> rows(z.batch, z.length);
        const int64_t dim = padded<T, width>(z.dim), value_dim = padded<T, width>(z.value_dim);
        const ExactForward<T> work{
            .q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, dim),
            .k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, dim),
            .v = rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim,
                              value_dim),
            .out = a.out,
            .lse = a.lse,
            .lse_rest = a.lse_rest,
            .scale = a.scale,
            .size = z,
            .attended = attended};
        rows.launch();
        if constexpr (width > 0)
            launch_kernel(exact_forward_kernel<T, width>,
                          exact_grid<T>(z.batch * z.heads, attended, width, 3), work);
        else
            launch_kernel(exact_forward_wide_kernel<T>,
                          exact_grid<T>(z.batch * z.heads, attended, wide_chunk<T>, 2), work);
    });
}

template <class T>
void exact_tiles_backward(const AttentionBackward<T>& a, const Attended& attended) {
    const AttentionSizes& z = a.size;
    const RowStatsOf<T, ExactRowStats<T>> stats(a, T(1));
    with_width<T>(std::max(z.dim, z.value_dim), [&]<int width>() {
        RowPreparation<Unrounded<T>, T> rows(z.batch, z.length);
        const int64_t dim = padded<T, width>(z.dim), value_dim = padded<T, width>(z.value_dim);
        const ExactBackward<T> work{
            .q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, dim),
            .k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, dim),
            .v = rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim,
                              value_dim),
            .dout = rows.prepare(rows_by_token(a.dout, z.heads, z.length, z.value_dim), z.heads, z.value_dim,
                                 value_dim),
            .stats = stats.data(),
            .stats_pitch = stats.pitch(),
            .dq = a.dq,
            .dk = a.dk,
            .dv = a.dv,
            .scale = a.scale,
            .size = z,
            .attended = attended};
        rows.launch();
        const int64_t heads = z.batch * z.heads, kv_heads = z.batch * z.kv_heads;
        if constexpr (width > 0) {
            launch_kernel(exact_backward_kernel<T, width, true>, exact_grid<T>(kv_heads, attended, width, 4),
                          work);
            launch_kernel(exact_backward_kernel<T, width, false>, exact_grid<T>(heads, attended, width, 4),
                          work);
        } else {
            launch_kernel(exact_backward_wide_kernel<T, true>,
                          exact_grid<T>(kv_heads, attended, wide_chunk<T>, 2), work);
            launch_kernel(exact_backward_wide_kernel<T, false>,
                          exact_grid<T>(heads, attended, wide_chunk<T>, 2), work);
        }
    });
}

template void exact_tiles_forward(const AttentionForward<float>&, const Attended&);
template void exact_tiles_forward(const AttentionForward<double>&, const Attended&);
template void exact_tiles_backward(const AttentionBackward<float>&, const Attended&);
template void exact_tiles_backward(const AttentionBackward<double>&, const Attended&);

}  // namespace sieve::cuda
