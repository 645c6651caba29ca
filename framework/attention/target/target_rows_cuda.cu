// Two steps, some rows at a time, so that the products of all heads between them stay small:
//
//   products   z[t,h,s] of tiles of 32 queries and 64 keys (scores/head_tile.cuh), or on tensor cores
//   softmax    of each head's row, added up over the heads (target_softmax.cuh)
//
// A softmax needs its whole row before its first probability is known, and a tile does not see it.
//
// FLOPs: T^2 H dh and T^2 H exponentials. Bytes: operands of a tile from the L2 cache; 4 T^2 H / 2 written
// and read again, through that cache for the most part. Deterministic.
#include <algorithm>

#include "framework/attention/scores/fragment_scores.cuh"
#include "framework/attention/target/attention_head_rows.cuh"
#include "framework/attention/target/target_rows.h"
#include "framework/attention/target/target_softmax.cuh"

namespace sieve::cuda {
namespace {

// Some rows of a chunk.
template <class T>
struct TargetProducts {
    AttentionTarget<T> attention;
    int64_t length;
    RowChunk chunk;
    T* z;  // [batches, rows, H, T], written at s <= t

    __device__ T* at(int64_t b, int64_t t, int64_t h) const {
        return z + ((b * chunk.rows + t - chunk.first) * attention.heads + h) * length;
    }
};

template <class T>
__global__ void __launch_bounds__(HeadTile<T>::threads) product_kernel(TargetProducts<T> a) {
    using Tile = HeadTile<T>;
    __shared__ typename Tile::Shared shared;
    const int64_t b = blockIdx.z, end = a.chunk.first + a.chunk.rows;
    const int64_t t0 = a.chunk.first + static_cast<int64_t>(blockIdx.y) * Tile::queries;
    const int64_t s0 = static_cast<int64_t>(blockIdx.x) * Tile::keys;
    if (s0 >= t0 + Tile::queries) return;
    const ScoredRows<T> rows = attention_head_rows(a.attention, a.length, a.chunk.batch + b);
    Tile(rows, t0, s0, shared).for_each_head([&](int h, const T(&x)[4][4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int64_t t = t0 + Tile::query(i);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int64_t s = s0 + Tile::key(j);
                if (t < end && s <= t) a.at(b, t, h)[s] = x[i][j];
            }
        }
    });
}

// On tensor cores (scores/fragment_scores.cuh): a warp has 32 keys, a block 256, and meets 32
// queries, which lie in shared memory one head at a time, two heads in turns.
template <class Words, int chunks>
__global__ void __launch_bounds__(256) fragment_product_kernel(TargetProducts<float> a, const uint4* packed) {
    using Keys = FragmentKeys<Words, chunks, 2>;
    constexpr int queries = 32, tiles = queries / 8, pieces = chunks * 4;
    __shared__ uint4 q[2][tiles * chunks * 32];
    const AttentionTarget<float>& n = a.attention;
    const int64_t z = blockIdx.z, b = a.chunk.batch + z, end = a.chunk.first + a.chunk.rows;
    const int64_t t0 = a.chunk.first + static_cast<int64_t>(blockIdx.y) * queries;
    const int64_t block_key = static_cast<int64_t>(blockIdx.x) * blockDim.x;
    if (block_key >= t0 + queries) return;
    const int64_t s0 = block_key + threadIdx.x / warp_size * Keys::keys;
    const int lane = threadIdx.x % warp_size, width = static_cast<int>(n.width);
    const bool whole = whole_packs<float>(width), seen = s0 < t0 + queries;
    const auto load = [&](int64_t h) {
        for (int i = threadIdx.x; i < queries * pieces; i += blockDim.x) {
            const int piece = i % pieces, query = i / pieces;
            const float* row = n.q + ((b * n.heads + h) * a.length + t0 + query) * n.width;
            const int at = (query / 8 * chunks + piece / 4) * 32 + query % 8 * 4 + piece % 4;
            q[h % 2][at] =
                packed_piece<Words>(row, piece * 4 * Words::elements, t0 + query < end ? width : 0, whole);
        }
    };
    load(0);
    for (int64_t h = 0; h < n.heads; ++h) {
        __syncthreads();
        if (h + 1 < n.heads) load(h + 1);
        if (!seen) continue;
        const int64_t key_head = h / (n.heads / n.key_heads);
        const Keys keys(packed + (z * n.key_heads + key_head) * a.length * pieces,
                        [&](int i) { return s0 + i < a.length ? s0 + i : a.length - 1; });
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
            float x[2][4] = {};
            keys.multiply([&](int c) { return q[h % 2][(tile * chunks + c) * 32 + lane]; }, x);
            for (int m = 0; m < 2; ++m)
                for (int e = 0; e < 4; ++e) {
                    const int64_t t = t0 + tile * 8 + lane % 4 * 2 + e % 2,
                                  s = s0 + m * 16 + lane / 4 + e / 2 * 8;
                    if (t < end && s <= t) a.at(z, t, h)[s] = x[m][e];
                }
        }
    }
}

template <class Words, int chunks>
void launch_fragment_products(const TargetProducts<float>& a) {
    const AttentionTarget<float>& n = a.attention;
    const int64_t keys = n.key_heads * a.length;
    const Tensor packed =
        packed_rows<Words, chunks>(n.k + a.chunk.batch * keys * n.width, a.chunk.batches * keys, n.width);
    launch_kernel(fragment_product_kernel<Words, chunks>,
                  {.blocks = dim3(blocks_for(a.chunk.first + a.chunk.rows, 256), blocks_for(a.chunk.rows, 32),
                                  static_cast<unsigned>(a.chunk.batches)),
                   .threads = dim3(256)},
                  a, static_cast<const uint4*>(packed.raw()));
}

template <class T>
void target_products(const TargetProducts<T>& a) {
    using Tile = HeadTile<T>;
    if constexpr (std::is_same_v<T, float>) {
        const bool done = with_fragments(a.attention.width, [&]<class Shape>(Shape) {
            launch_fragment_products<typename Shape::Words, Shape::chunks>(a);
        });
        if (done) return;
    }
    launch_kernel(
        product_kernel<T>,
        {.blocks = dim3(blocks_for(a.chunk.first + a.chunk.rows, Tile::keys),
                        blocks_for(a.chunk.rows, Tile::queries), static_cast<unsigned>(a.chunk.batches)),
         .threads = dim3(Tile::threads)},
        a);
}

template <class T>
void part_of_target_rows(const TargetRows<T>& a, const RowChunk& part) {
    const int64_t heads = a.attention.heads;
    const Tensor z = Tensor::empty(Shape{part.batches, part.rows, heads, a.length}, dtype_of<T>, device);
    target_products(TargetProducts<T>{a.attention, a.length, part, z.template data<T>()});
    const int64_t p_batch = a.chunk.rows * a.length;
    target_softmax(TargetSoftmax<T>{
        .z = z.template data<T>(),
        .p = a.p + (part.batch - a.chunk.batch) * p_batch + (part.first - a.chunk.first) * a.length,
        .stride = a.length,
        .heads = heads,
        .chunk = part,
        .p_batch = p_batch,
        .scale = static_cast<T>(a.attention.scale),
        .keys = a.keys,
        .packed = false});
}

}  // namespace

// A part has as many products as a chunk has pairs of query and key, or 32 queries when that is more.
template <class T>
void target_rows(const TargetRows<T>& a) {
    const RowChunk& chunk = a.chunk;
    const int64_t together = std::max<int64_t>(
        32, chunk_limits().elements / std::max<int64_t>(1, a.attention.heads * a.length) / 32 * 32);
    const int64_t rows = std::min(chunk.rows, together),
                  batches = std::max<int64_t>(1, together / chunk.rows);
    for (int64_t b = 0; b < chunk.batches; b += batches)
        for (int64_t t = 0; t < chunk.rows; t += rows)
            part_of_target_rows(a, {.batch = chunk.batch + b,
                                    .batches = std::min(batches, chunk.batches - b),
                                    .first = chunk.first + t,
                                    .rows = std::min(rows, chunk.rows - t)});
}

template void target_rows(const TargetRows<float>&);
template void target_rows(const TargetRows<double>&);

}  // namespace sieve::cuda
