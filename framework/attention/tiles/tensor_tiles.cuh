// Private to this room.
// The tensor-core kernels of attention (after Dao, "FlashAttention-2", 2023). First one launch copies the
// rows of the operands, rounded and padded to a width of 32, 64 or 128, q times scale * log2 e, so that
// scores are exponents of 2. A block is 4 warps; each has 16 rows, or 2 x 16, of the block's own tile, and
// the scores between them and the 64 rows of a visiting tile:
//
//   registers       scores [16 x 64], the sums, and forward q. No score ever leaves them: the weights become
//                   the A operand of the next product
//   shared memory   what visits, twice: the next tile arrives (cp.async) while this one is multiplied. Rows
//                   are padded by 16 bytes, so that the 8 rows of an ldmatrix fall into different banks
//
//   forward    a block owns 64 or 128 queries; k and v visit
//   backward   one kernel twice:
//
//                owns     visits                  sums
//                keys     q, dout of each head    dv += a dout,  dk += dz q
//                queries  k, v                    dq += dz k
//
//              The sums of what a block owns are its alone, in a fixed order: deterministic. The price are 7
//              products instead of 5, since both compute the scores.
//
// Keys that a query does not attend to get a weight of exactly 0, so that they add nothing.
//
// FLOPs a score (a pair of query and key): forward 4 dim, backward 14 dim (10 dim if nothing were computed
// twice). T 4096, dim 64, 16 heads, causal: 34 and 120 GFLOP. In bfloat16 mma.sync reaches about 600 TFLOPS
// on an H100, 2600 FLOP a clock and multiprocessor. A visiting tile then takes
//
//                        products      shared memory, 128 bytes a clock     exponentials, 16 a clock
//   forward, 128 rows    810 clocks    64 KiB: 512                          512
//   backward, keys       810           144 KiB: 1150                        256
//   backward, queries    605           112 KiB: 900                         256
//
// that is, with nothing else in the way, 0.06 ms forward and 0.29 ms backward; 0.1 and 0.4 ms are expected.
// The copies move 6 bytes an element of q, k, v (and dout): 0.02 ms.
#pragma once

#include "framework/attention/tiles/attended.cuh"
#include "framework/attention/tiles/head_rows.cuh"
#include "framework/attention/tiles/load_tile.cuh"
#include "framework/attention/tiles/tensor_fragments.cuh"

namespace sieve::cuda {

constexpr int tensor_threads = 128;
// Blocks that a multiprocessor should hold: as many as registers allow without spilling any.
template <int width, int row_tiles>
constexpr int forward_blocks = width > 64              ? 1
                               : width* row_tiles > 64 ? 2
                               : width* row_tiles > 32 ? 3
                                                       : 4;
template <int width, bool owns_keys>
constexpr int backward_blocks = width > 64                ? 1
                                : width > 32 || owns_keys ? 3
                                                          : 4;
constexpr int tensor_tile = 64;               // rows of a visiting tile
constexpr int score_tiles = tensor_tile / 8;  // fragments of 8 columns

template <class Fragments, int width>
struct TensorTile {
    using E = typename Fragments::Element;
    static constexpr int pitch = width + full_pack<E>;
    static constexpr int elements = tensor_tile * pitch;
    static constexpr int bytes = elements * static_cast<int>(sizeof(E));
    static constexpr int steps = width / Fragments::depth;              // of a product over the width
    static constexpr int score_steps = tensor_tile / Fragments::depth;  // of a product over a tile's rows

    // scores += a b^T: 16 rows, of which the fragments are given, by a tile's 64.
    __device__ static void add_dots(float (&scores)[score_tiles][4], const uint32_t (&a)[4], const E* tile,
                                    int step) {
#pragma unroll
        for (int j = 0; j < score_tiles; j += 2) {
            uint32_t b[4];
            b_of_rows(b, tile + j * 8 * pitch + step * Fragments::depth, pitch);
            Fragments::multiply(scores[j], a, b[0], b[1]);
            Fragments::multiply(scores[j + 1], a, b[2], b[3]);
        }
    }
};

// The place of a lane in the fragments of scores and sums: rows g and g + 8, columns 2t and 2t + 1 of each 8.
struct LanePlace {
    int g = threadIdx.x % warp_size / 4, t = threadIdx.x % 4;
};

// A lane's two neighbours of a row, below `columns`.
__device__ inline void store_pair(float* row, int column, int64_t columns, float x, float y) {
    if (columns % 2 == 0 && column < columns) {
        store_pack(row + column, Pack<float, 2>{{x, y}});
        return;
    }
    if (column < columns) row[column] = x;
    if (column + 1 < columns) row[column + 1] = y;
}

template <class E>
struct TensorForward {
    HeadRows<E> q, k, v;  // q times scale * log2 e
    float *out, *lse, *lse_rest;
    AttentionSizes size;
    Attended attended;
};

template <class E>
struct TensorBackward {
    HeadRows<E> q, k, v, dout;
    const RowStats<float>* stats;  // [batch, heads, stats_pitch], lse times log2 e
    int64_t stats_pitch;
    float *dq, *dk, *dv;
    float scale;
    AttentionSizes size;
    Attended attended;
};

constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;

// Over the four lanes that share a row of a fragment.
template <class Operation>
__device__ float reduce_quad(float value, Operation op) {
    value = op(value, __shfl_xor_sync(whole_warp, value, 1));
    return op(value, __shfl_xor_sync(whole_warp, value, 2));
}

// The running softmax of the rows g and g + 8 of 16, in exponents of 2. The maximum is the row's; the sum is
// this lane's share of it.
struct TensorSoftmax {
    float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

    // scores -> exp2(scores - maximum); factor = exp2(old maximum - new).
    __device__ void add(float (&scores)[score_tiles][4], float (&factor)[2]) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float high = maximum[half];
#pragma unroll
            for (int j = 0; j < score_tiles; ++j)
                high = fmaxf(high, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
            high = reduce_quad(high, Max{});
            const float finite = high == -INFINITY ? 0 : high;  // no key yet
            factor[half] = fast_exp2(maximum[half] - finite);
            maximum[half] = high;
            float total = factor[half] * sum[half];
#pragma unroll
            for (int j = 0; j < score_tiles; ++j)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; ++e) {
                    scores[j][e] = fast_exp2(scores[j][e] - finite);
                    total += scores[j][e];
                }
            sum[half] = total;
        }
    }
};

// Scores of keys that the rows `row` + g and `row` + g + 8 do not attend to become -inf.
__device__ inline void mask_rows(float (&scores)[score_tiles][4], const Attended& attended, int row,
                                 int first_key) {
    const LanePlace lane;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const uint64_t keys = attended.keys_of(row + lane.g + 8 * half, first_key) >> (2 * lane.t);
#pragma unroll
        for (int j = 0; j < score_tiles; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                if (!(keys >> (8 * j + e) & 1)) scores[j][2 * half + e] = -INFINITY;
    }
}

// The same for scores whose rows are the keys `key` + g and + 8, and whose columns are queries.
__device__ inline void mask_columns(float (&scores)[score_tiles][4], const Attended& attended, int key,
                                    int first_query) {
    const LanePlace lane;
#pragma unroll
    for (int j = 0; j < score_tiles; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int query = first_query + 8 * j + 2 * lane.t + e, before = query - key - lane.g;
            bool low = before >= 0, high = before >= 8;
            if (attended.words) {  // 16 keys from a multiple of 16 on lie in one word
                const uint32_t keys = attended.selected_of(query, key) >> (key % 32 + lane.g);
                low = keys & 1;
                high = keys >> 8 & 1;
            }
            if (!low) scores[j][e] = -INFINITY;
            if (!high) scores[j][2 + e] = -INFINITY;
        }
}

// sums += weights times a tile of 64 rows.
template <class Fragments, int width>
__device__ void add_weighted_tile(float (&sums)[width / 8][4], const float (&weights)[score_tiles][4],
                                  const typename Fragments::Element* tile) {
    using Tile = TensorTile<Fragments, width>;
#pragma unroll
    for (int step = 0; step < Tile::score_steps; ++step) {
        uint32_t a[4];
        Fragments::a_of_scores(a, weights, step);
#pragma unroll
        for (int d = 0; d < width / 8; d += 2) {
            uint32_t b[4];
            Fragments::b_across(b, tile + step * Fragments::depth * Tile::pitch + d * 8, Tile::pitch);
            Fragments::multiply(sums[d], a, b[0], b[1]);
            Fragments::multiply(sums[d + 1], a, b[2], b[3]);
        }
    }
}

// The forward's block: row_tiles x 16 queries a warp.
template <class Fragments, int width, int row_tiles>
__global__ void __launch_bounds__(tensor_threads, forward_blocks<width, row_tiles>)
    tensor_forward_kernel(const __grid_constant__ TensorForward<typename Fragments::Element> a) {
    using Tile = TensorTile<Fragments, width>;
    using E = typename Fragments::Element;
    constexpr int block_rows = tensor_tile * row_tiles, pitch = Tile::pitch, dims = width / 8;
    const int heads = static_cast<int>(a.size.heads), b = blockIdx.x / heads, h = blockIdx.x % heads;
    const int g = h / static_cast<int>(a.size.heads / a.size.kv_heads);
    // The last queries, with the most keys, come first.
    const int first = (gridDim.y - 1 - blockIdx.y) * block_rows;
    const int rows = a.attended.rows, end = min(first + block_rows, rows);
    const int own = first + threadIdx.x / warp_size * 16 * row_tiles;  // this warp's first query
    const Attended attended = a.attended.of_batch(b);
    E* stages = dynamic_shared<E>();  // k and v; v and k of the next tile, where q is at first
    const auto load = [&](int stage, int s) {
        E* k = stages + stage * 2 * Tile::elements;
        load_tile<tensor_threads, tensor_tile, width>(k, pitch, a.k.head(b, g), a.k.row_stride, s, rows);
        load_tile<tensor_threads, tensor_tile, width>(k + Tile::elements, pitch, a.v.head(b, g),
                                                      a.v.row_stride, s, rows);
    };
    const auto next_tile = [&](int s) {
        while (s < end && !attended.any(first, block_rows, s, tensor_tile)) s += tensor_tile;
        return s;
    };
    float sums[row_tiles][dims][4] = {};
    TensorSoftmax softmax[row_tiles];
    uint32_t q[row_tiles][Tile::steps][4];
    int s = next_tile(0), stage = 0;
    if (s < end) load(0, s);
    E* q_shared = stages + 2 * Tile::elements;
    load_tile<tensor_threads, block_rows, width>(q_shared, pitch, a.q.head(b, h), a.q.row_stride, first,
                                                 rows);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < row_tiles; ++i)
#pragma unroll
        for (int step = 0; step < Tile::steps; ++step)
            a_of_rows(q[i][step], q_shared + (own - first + 16 * i) * pitch + step * Fragments::depth, pitch);
    __syncthreads();
    while (s < end) {
        const int next = next_tile(s + tensor_tile);
        if (next < end) load(1 - stage, next);
        cp_async_commit();
        if (s < own + 16 * row_tiles) {
            const E *k = stages + stage * 2 * Tile::elements, *v = k + Tile::elements;
            float scores[row_tiles][score_tiles][4] = {}, factor[2];
#pragma unroll
            for (int step = 0; step < Tile::steps; ++step)
#pragma unroll
                for (int j = 0; j < score_tiles; j += 2) {
                    uint32_t keys[4];
                    b_of_rows(keys, k + j * 8 * pitch + step * Fragments::depth, pitch);
#pragma unroll
                    for (int i = 0; i < row_tiles; ++i) {
                        Fragments::multiply(scores[i][j], q[i][step], keys[0], keys[1]);
                        Fragments::multiply(scores[i][j + 1], q[i][step], keys[2], keys[3]);
                    }
                }
#pragma unroll
            for (int i = 0; i < row_tiles; ++i) {
                if (attended.words || s + tensor_tile > own + 1)
                    mask_rows(scores[i], attended, own + 16 * i, s);
                softmax[i].add(scores[i], factor);
#pragma unroll
                for (int d = 0; d < dims; ++d)
#pragma unroll
                    for (int e = 0; e < 4; ++e) sums[i][d][e] *= factor[e / 2];
            }
#pragma unroll
            for (int step = 0; step < Tile::score_steps; ++step) {
                uint32_t weights[row_tiles][4];
#pragma unroll
                for (int i = 0; i < row_tiles; ++i) Fragments::a_of_scores(weights[i], scores[i], step);
#pragma unroll
                for (int d = 0; d < dims; d += 2) {
                    uint32_t values[4];
                    Fragments::b_across(values, v + step * Fragments::depth * pitch + d * 8, pitch);
#pragma unroll
                    for (int i = 0; i < row_tiles; ++i) {
                        Fragments::multiply(sums[i][d], weights[i], values[0], values[1]);
                        Fragments::multiply(sums[i][d + 1], weights[i], values[2], values[3]);
                    }
                }
            }
        }
        cp_async_wait<0>();
        __syncthreads();  // the next tile is there, this one is done with
        stage = 1 - stage;
        s = next;
    }
    const LanePlace lane;
    const int64_t out_stride = a.size.heads * a.size.value_dim;
    float* out = a.out + (b * a.size.length * a.size.heads + h) * a.size.value_dim;
    float* lse = a.lse + (b * a.size.heads + h) * a.size.length;
    float* lse_rest = a.lse_rest + (b * a.size.heads + h) * a.size.length;
#pragma unroll
    for (int i = 0; i < row_tiles; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int t = own + 16 * i + lane.g + 8 * half;
            const float sum = reduce_quad(softmax[i].sum[half], Sum{}), inverse = sum == 0 ? 0 : 1 / sum;
            if (t >= rows) continue;
            if (lane.t == 0) {
                lse[t] = ln_2 * (softmax[i].maximum[half] + log2f(sum));
                lse_rest[t] = 0;  // operands are rounded, by far more than this
            }
#pragma unroll
            for (int d = 0; d < dims; ++d)
                store_pair(out + t * out_stride, d * 8 + 2 * lane.t, a.size.value_dim,
                           inverse * sums[i][d][2 * half], inverse * sums[i][d][2 * half + 1]);
        }
}

// What visits a block of the backward: 64 rows of one head.
struct Visitor {
    int head, first;
};

template <bool owns_keys>
struct TensorVisitors {
    int b, head, end_head;  // head: the owned one; end_head: of the visiting ones
    int first, begin, end;  // rows
    Attended attended;
    Visitor at;

    __device__ TensorVisitors(const AttentionSizes& z, const Attended& all) {
        const int heads = static_cast<int>(owns_keys ? z.kv_heads : z.heads);
        const int group = static_cast<int>(z.heads / z.kv_heads);
        b = blockIdx.x / heads;
        head = blockIdx.x % heads;
        at.head = owns_keys ? head * group : head / group;
        end_head = at.head + (owns_keys ? group : 1);
        // The tiles with the most visitors come first.
        first = (owns_keys ? blockIdx.y : gridDim.y - 1 - blockIdx.y) * tensor_tile;
        attended = all.of_batch(b);
        begin = owns_keys ? first : 0;
        end = owns_keys ? all.rows : first + 1;
        at = admitted({at.head, begin});
    }
    __device__ bool left() const { return at.head < end_head; }
    __device__ Visitor next() const { return admitted({at.head, at.first + tensor_tile}); }

  private:
    // The first visitor from v on that may not be skipped.
    __device__ Visitor admitted(Visitor v) const {
        while (v.head < end_head) {
            for (; v.first < end; v.first += tensor_tile)
                if (attended.any(first, tensor_tile, v.first, tensor_tile)) return v;
            ++v.head;
            v.first = begin;
        }
        return v;
    }
};

// Wide tf32 rows visit one tile at a time: two would not fit.
template <class Fragments, int width>
constexpr int visiting_stages = width * sizeof(typename Fragments::Element) > 256 ? 1 : 2;

// scores -> a, dscores (dout . v) -> dz. `stats`: of the 64 visiting queries.
__device__ inline void softmax_backward_keys(float (&scores)[score_tiles][4],
                                             float (&dscores)[score_tiles][4], const RowStats<float>* stats) {
    const LanePlace lane;
#pragma unroll
    for (int j = 0; j < score_tiles; ++j) {
        const auto pair = load_pack<2>(stats + 8 * j + 2 * lane.t);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            scores[j][e] = fast_exp2(scores[j][e] - pair.at[e % 2].lse);
            dscores[j][e] = scores[j][e] * (dscores[j][e] - pair.at[e % 2].delta);
        }
    }
}

// The same with the queries g and g + 8 as rows.
__device__ inline void softmax_backward_queries(float (&scores)[score_tiles][4],
                                                float (&dscores)[score_tiles][4],
                                                const RowStats<float> (&stats)[2]) {
#pragma unroll
    for (int j = 0; j < score_tiles; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            scores[j][e] = fast_exp2(scores[j][e] - stats[e / 2].lse);
            dscores[j][e] = scores[j][e] * (dscores[j][e] - stats[e / 2].delta);
        }
}

// to[row] = factor * sums, rows `row` + g and + 8.
template <int width>
__device__ void store_sums(float* to, int row, int rows, int64_t columns, const float (&sums)[width / 8][4],
                           float factor) {
    const LanePlace lane;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int at = row + lane.g + 8 * half;
        if (at >= rows) continue;
#pragma unroll
        for (int d = 0; d < width / 8; ++d)
            store_pair(to + at * columns, d * 8 + 2 * lane.t, columns, factor * sums[d][2 * half],
                       factor * sums[d][2 * half + 1]);
    }
}

template <class Fragments, int width, bool owns_keys>
__global__ void __launch_bounds__(tensor_threads, backward_blocks<width, owns_keys>)
    tensor_backward_kernel(const __grid_constant__ TensorBackward<typename Fragments::Element> a) {
    using Tile = TensorTile<Fragments, width>;
    using E = typename Fragments::Element;
    constexpr int pitch = Tile::pitch, stages = visiting_stages<Fragments, width>;
    E *own0 = dynamic_shared<E>(), *own1 = own0 + Tile::elements, *visiting = own1 + Tile::elements;
    auto* visiting_stats = reinterpret_cast<RowStats<float>*>(visiting + stages * 2 * Tile::elements);
    const int rows = a.attended.rows;
    TensorVisitors<owns_keys> visitors(a.size, a.attended);
    const int b = visitors.b;
    const int warp_rows = threadIdx.x / warp_size * 16, own = visitors.first + warp_rows;
    const HeadRows<E>&x0 = owns_keys ? a.k : a.q, &x1 = owns_keys ? a.v : a.dout;
    const HeadRows<E>&y0 = owns_keys ? a.q : a.k, &y1 = owns_keys ? a.dout : a.v;
    const auto load = [&](int stage, const Visitor& v) {
        E* to = visiting + stage * 2 * Tile::elements;
        load_tile<tensor_threads, tensor_tile, width>(to, pitch, y0.head(b, v.head), y0.row_stride, v.first,
                                                      rows);
        load_tile<tensor_threads, tensor_tile, width>(to + Tile::elements, pitch, y1.head(b, v.head),
                                                      y1.row_stride, v.first, rows);
        if (owns_keys && threadIdx.x < tensor_tile / 2)  // 16 bytes a thread
            cp_async_16(visiting_stats + stage * tensor_tile + 2 * threadIdx.x,
                        a.stats + (b * a.size.heads + v.head) * a.stats_pitch + v.first + 2 * threadIdx.x);
    };
    load_tile<tensor_threads, tensor_tile, width>(own0, pitch, x0.head(b, visitors.head), x0.row_stride,
                                                  visitors.first, rows);
    load_tile<tensor_threads, tensor_tile, width>(own1, pitch, x1.head(b, visitors.head), x1.row_stride,
                                                  visitors.first, rows);
    if (visitors.left()) load(0, visitors.at);
    cp_async_commit();
    RowStats<float> own_stats[2];
    for (int half = 0; half < 2 && !owns_keys; ++half)
        own_stats[half] =
            a.stats[(b * a.size.heads + visitors.head) * a.stats_pitch + own + LanePlace{}.g + 8 * half];
    cp_async_wait<0>();
    __syncthreads();
    float sums0[width / 8][4] = {}, sums1[width / 8][4] = {};
    int stage = 0;
    while (visitors.left()) {
        const Visitor next = visitors.next();
        if (stages == 2 && next.head < visitors.end_head) load(1 - stage, next);
        cp_async_commit();
        const E *visit0 = visiting + stage * 2 * Tile::elements, *visit1 = visit0 + Tile::elements;
        float scores[score_tiles][4] = {}, dscores[score_tiles][4] = {};
#pragma unroll
        for (int step = 0; step < Tile::steps; ++step) {
            uint32_t rows0[4], rows1[4];
            a_of_rows(rows0, own0 + warp_rows * pitch + step * Fragments::depth, pitch);
            a_of_rows(rows1, own1 + warp_rows * pitch + step * Fragments::depth, pitch);
            Tile::add_dots(scores, rows0, visit0, step);
            Tile::add_dots(dscores, rows1, visit1, step);
        }
        if constexpr (owns_keys) {
            if (visitors.attended.words || visitors.at.first == visitors.first)
                mask_columns(scores, visitors.attended, own, visitors.at.first);
            softmax_backward_keys(scores, dscores, visiting_stats + stage * tensor_tile);
            add_weighted_tile<Fragments, width>(sums1, scores, visit1);
        } else {
            if (visitors.attended.words || visitors.at.first == visitors.first)
                mask_rows(scores, visitors.attended, own, visitors.at.first);
            softmax_backward_queries(scores, dscores, own_stats);
        }
        add_weighted_tile<Fragments, width>(sums0, dscores, visit0);
        if (stages == 1) {
            __syncthreads();  // this visitor is done with
            if (next.head < visitors.end_head) load(0, next);
            cp_async_commit();
        }
        cp_async_wait<0>();
        __syncthreads();
        stage = (stage + 1) % stages;
        visitors.at = next;
    }
    const int64_t heads = owns_keys ? a.size.kv_heads : a.size.heads;
    const int64_t row = (b * heads + visitors.head) * a.size.length;
    if constexpr (owns_keys) {
        // q has the scale in it.
        store_sums<width>(a.dk + row * a.size.dim, own, rows, a.size.dim, sums0, ln_2);
        store_sums<width>(a.dv + row * a.size.value_dim, own, rows, a.size.value_dim, sums1, 1);
    } else {
        store_sums<width>(a.dq + row * a.size.dim, own, rows, a.size.dim, sums0, a.scale);
    }
}

// Calls f.template operator()<width>().
template <class F>
void with_tensor_width(const AttentionSizes& z, F&& f) {
    const int64_t columns = std::max(z.dim, z.value_dim);
    if (columns <= 32) return f.template operator()<32>();
    if (columns <= 64) return f.template operator()<64>();
    f.template operator()<128>();
}

inline Grid tensor_grid(int64_t heads, int rows, int block_rows, int bytes) {
    return {.blocks = dim3(static_cast<unsigned>(heads), blocks_for(rows, block_rows)),
            .threads = dim3(tensor_threads),
            .shared_bytes = static_cast<size_t>(bytes)};
}

template <class Fragments>
void tensor_tiles_forward(const AttentionForward<float>& a, const Attended& attended) {
    const AttentionSizes& z = a.size;
    with_tensor_width(z, [&]<int width>() {
        RowPreparation<Fragments, float> rows(z.batch, z.length);
        const TensorForward<typename Fragments::Element> work{
            .q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, width,
                              a.scale * log2_e),
            .k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, width),
            .v = rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim,
                              width),
            .out = a.out,
            .lse = a.lse,
            .lse_rest = a.lse_rest,
            .size = z,
            .attended = attended};
        rows.launch();
        constexpr int bytes = 4 * TensorTile<Fragments, width>::bytes;
        constexpr int64_t enough_blocks = 264;  // two for each multiprocessor of an H100
        const int64_t heads = z.batch * z.heads;
        // Two tiles of rows a warp do not fit the registers when q takes more of them.
        if constexpr (Fragments::depth == 16 && width <= 64)
            if (heads * blocks_for(attended.rows, 128) >= enough_blocks)
                return launch_kernel(tensor_forward_kernel<Fragments, width, 2>,
                                     tensor_grid(heads, attended.rows, 128, bytes), work);
        launch_kernel(tensor_forward_kernel<Fragments, width, 1>,
                      tensor_grid(heads, attended.rows, 64, bytes), work);
    });
}

template <class Fragments>
void tensor_tiles_backward(const AttentionBackward<float>& a, const Attended& attended) {
    const AttentionSizes& z = a.size;
    const RowStatsOf<float, RowStats<float>> stats(a, log2_e);
    with_tensor_width(z, [&]<int width>() {
        RowPreparation<Fragments, float> rows(z.batch, z.length);
        const TensorBackward<typename Fragments::Element> work{
            .q = rows.prepare(rows_by_head(a.q, z.heads, z.length, z.dim), z.heads, z.dim, width,
                              a.scale * log2_e),
            .k = rows.prepare(rows_by_head(a.k, z.kv_heads, z.length, z.dim), z.kv_heads, z.dim, width),
            .v = rows.prepare(rows_by_head(a.v, z.kv_heads, z.length, z.value_dim), z.kv_heads, z.value_dim,
                              width),
            .dout = rows.prepare(rows_by_token(a.dout, z.heads, z.length, z.value_dim), z.heads, z.value_dim,
                                 width),
            .stats = stats.data(),
            .stats_pitch = stats.pitch(),
            .dq = a.dq,
            .dk = a.dk,
            .dv = a.dv,
            .scale = a.scale,
            .size = z,
            .attended = attended};
        rows.launch();
        constexpr int stages = visiting_stages<Fragments, width>;
        constexpr int bytes = (2 + 2 * stages) * TensorTile<Fragments, width>::bytes +
                              stages * tensor_tile * static_cast<int>(sizeof(RowStats<float>));
        launch_kernel(tensor_backward_kernel<Fragments, width, true>,
                      tensor_grid(z.batch * z.kv_heads, attended.rows, tensor_tile, bytes), work);
        launch_kernel(tensor_backward_kernel<Fragments, width, false>,
                      tensor_grid(z.batch * z.heads, attended.rows, tensor_tile, bytes), work);
    });
}

}  // namespace sieve::cuda
