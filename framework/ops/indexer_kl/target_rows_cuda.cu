// A block computes one tile of 32 queries and 64 keys: the products of one head after another
// (lightning_indexer/head_tile.cuh), whose exponentials add up in registers in ascending order of heads.
//
// FLOPs: T^2 H dh and T^2 H / 2 exponentials. Bytes: operands of a tile from the L2 cache; 4 T^2 / 2 written.
// Deterministic.
#include "framework/ops/indexer_kl/attention_head_rows.cuh"
#include "framework/ops/indexer_kl/target_rows.h"

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

}  // namespace

template <class T>
void target_rows(const TargetRows<T>& a) {
    using Tile = HeadTile<T>;
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
