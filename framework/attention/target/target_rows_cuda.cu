// A block computes one tile of 32 queries and 64 keys: the products of one head after another
// (scores/head_tile.cuh), whose exponentials add up in registers in ascending order of heads.
//
// FLOPs: T^2 H dh and T^2 H / 2 exponentials. Bytes: operands of a tile from the L2 cache; 4 T^2 / 2 written.
// Deterministic.
#include "framework/attention/scores/fragment_scores.cuh"
#include "framework/attention/target/attention_head_rows.cuh"
#include "framework/attention/target/target_rows.h"

namespace sieve::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(HeadTile<T>::threads) target_rows_kernel(TargetRows<T> a) {
    using Tile = HeadTile<T>;
    __shared__ typename Tile::Shared shared;
    const int64_t z = blockIdx.z, b = a.chunk.batch + z, end = a.chunk.first + a.chunk.rows;
    const int64_t t0 = a.chunk.first + static_cast<int64_t>(blockIdx.y) * Tile::queries;
    const int64_t s0 = static_cast<int64_t>(blockIdx.x) * Tile::keys;
    if (s0 >= t0 + Tile::queries) return;
    const ScoredRows<T> rows = attention_head_rows(a.attention, a.length, b);
    const T scale = static_cast<T>(a.attention.scale);
    const T* lse[4];
    for (int i = 0; i < 4; ++i) {
        const int64_t t = t0 + Tile::query(i);
        lse[i] = a.attention.lse + b * a.attention.heads * a.length + (t < end ? t : end - 1);
    }
    T sum[4][4] = {};
    Tile(rows, t0, s0, shared).for_each_head([&](int h, const T(&x)[4][4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const T log_sum = lse[i][h * a.length];
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[i][j] += exp(scale * x[i][j] - log_sum);
        }
    });
    T* p = a.p + z * a.chunk.rows * a.length;
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            const int64_t t = t0 + Tile::query(i), s = s0 + Tile::key(j);
            if (t < end && s <= t) p[(t - a.chunk.first) * a.length + s] = sum[i][j];
        }
}

// On tensor cores (scores/fragment_scores.cuh): a warp has 32 keys, a block 256, and meets 32
// queries, which lie in shared memory one head at a time, two heads in turns. A lane adds up the
// probabilities of its 4 keys and 8 queries in registers.
template <class Words, int chunks>
__global__ void __launch_bounds__(256) fragment_target_kernel(TargetRows<float> a, const uint4* packed) {
    using Keys = FragmentKeys<Words, chunks, 2>;
    constexpr int queries = 32, tiles = queries / 8, pieces = chunks * 4;
    constexpr float log2_e = 1.44269504f;
    __shared__ uint4 q[2][tiles * chunks * 32];
    __shared__ float lse[2][queries];
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
        for (int i = threadIdx.x; i < queries; i += blockDim.x)
            lse[h % 2][i] = t0 + i < end ? log2_e * n.lse[(b * n.heads + h) * a.length + t0 + i] : 0.0f;
    };
    const float scale = log2_e * static_cast<float>(n.scale);
    float sum[tiles][2][4] = {};
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
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float log_sum = lse[h % 2][tile * 8 + lane % 4 * 2 + e % 2];
                sum[tile][0][e] += exp2f(scale * x[0][e] - log_sum);
                sum[tile][1][e] += exp2f(scale * x[1][e] - log_sum);
            }
        }
    }
    for (int tile = 0; tile < tiles; ++tile)
        for (int m = 0; m < 2; ++m)
            for (int e = 0; e < 4; ++e) {
                const int64_t t = t0 + tile * 8 + lane % 4 * 2 + e % 2,
                              s = s0 + m * 16 + lane / 4 + e / 2 * 8;
                if (t < end && s <= t)
                    a.p[(z * a.chunk.rows + t - a.chunk.first) * a.length + s] = sum[tile][m][e];
            }
}

template <class Words, int chunks>
void launch_fragment_targets(const TargetRows<float>& a) {
    const AttentionTarget<float>& n = a.attention;
    const int64_t keys = n.key_heads * a.length;
    const Tensor packed =
        packed_rows<Words, chunks>(n.k + a.chunk.batch * keys * n.width, a.chunk.batches * keys, n.width);
    launch_kernel(fragment_target_kernel<Words, chunks>,
                  {.blocks = dim3(blocks_for(a.chunk.first + a.chunk.rows, 256), blocks_for(a.chunk.rows, 32),
                                  static_cast<unsigned>(a.chunk.batches)),
                   .threads = dim3(256)},
                  a, static_cast<const uint4*>(packed.raw()));
}

}  // namespace

template <class T>
void target_rows(const TargetRows<T>& a) {
    using Tile = HeadTile<T>;
    if constexpr (std::is_same_v<T, float>) {
        const bool done = with_fragments(a.attention.width, [&]<class Shape>(Shape) {
            launch_fragment_targets<typename Shape::Words, Shape::chunks>(a);
        });
        if (done) return;
    }
    launch_kernel(
        target_rows_kernel<T>,
        {.blocks = dim3(blocks_for(a.chunk.first + a.chunk.rows, Tile::keys),
                        blocks_for(a.chunk.rows, Tile::queries), static_cast<unsigned>(a.chunk.batches)),
         .threads = dim3(Tile::threads)},
        a);
}

template void target_rows(const TargetRows<float>&);
template void target_rows(const TargetRows<double>&);

}  // namespace sieve::cuda
