// Private to this room.
// Attention tiles multiplied exactly, on the CUDA cores, in float or double. A block of 16 x 16 threads has a
// tile of n x n scores, n = 16 `each`: 64 in float, 32 in double. Thread (y, x) has
//
//   scores   rows each*y .. each*y + each - 1, columns x, x + 16, ..      sums of d ascending
//   sums     the same rows, columns in packs: x, x + 16, .. of the row    sums of s ascending
//
// so that it reads rows from shared memory in packs of 16 bytes, of which the lanes of a warp read neighbours
// or the same ones; an element loaded serves `each` multiply-adds. A row's 16 threads are half a warp.
#pragma once

#include "framework/attention/tiles/load_tile.cuh"
#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

constexpr int side = 16;
constexpr int exact_threads = side * side;

template <class T>
struct ExactScoreTile {
    static constexpr int each = full_pack<T>;
    static constexpr int size = side * each;           // queries, and keys
    static constexpr int weights_pitch = size + each;  // padded, so that rows fall into other banks
    template <int width>
    static constexpr int pitch = width + each;

    __device__ static int y() { return threadIdx.x / side; }
    __device__ static int x() { return threadIdx.x % side; }
    __device__ static int row(int i) { return y() * each + i; }
    __device__ static int column(int j) { return x() + side * j; }
};

// Elements of a row that a thread holds sums of.
template <class T, int width>
struct ExactColumns {
    static constexpr int pack = width / side < full_pack<T> ? width / side : full_pack<T>;
    static constexpr int packs = width / side / pack;

    __device__ static int first(int p) { return (p * side + ExactScoreTile<T>::x()) * pack; }
};

// scores[i][j] += a[row i] . b[column j], `width` elements.
template <class T, int width>
__device__ void add_dots(T (&scores)[ExactScoreTile<T>::each][ExactScoreTile<T>::each], const T* a,
                         const T* b) {
    using Tile = ExactScoreTile<T>;
    constexpr int each = Tile::each, pitch = Tile::template pitch<width>;
#pragma unroll 1
    for (int d = 0; d < width; d += each) {
        Pack<T, each> x[each], y[each];
#pragma unroll
        for (int i = 0; i < each; ++i) x[i] = load_pack<each>(a + Tile::row(i) * pitch + d);
#pragma unroll
        for (int j = 0; j < each; ++j) y[j] = load_pack<each>(b + Tile::column(j) * pitch + d);
#pragma unroll
        for (int e = 0; e < each; ++e)
#pragma unroll
            for (int i = 0; i < each; ++i)
#pragma unroll
                for (int j = 0; j < each; ++j) scores[i][j] += x[i].at[e] * y[j].at[e];
    }
}

// sums[i] += sum_s weights[row i][s] values[s], over the s of the tile.
template <class T, int width>
__device__ void add_weighted(T (&sums)[ExactScoreTile<T>::each][width / side], const T* weights,
                             const T* values) {
    using Tile = ExactScoreTile<T>;
    using Columns = ExactColumns<T, width>;
    constexpr int each = Tile::each, pitch = Tile::template pitch<width>;
#pragma unroll 1
    for (int s = 0; s < Tile::size; s += each) {
        Pack<T, each> w[each];
#pragma unroll
        for (int i = 0; i < each; ++i)
            w[i] = load_pack<each>(weights + Tile::row(i) * Tile::weights_pitch + s);
#pragma unroll
        for (int e = 0; e < each; ++e)
#pragma unroll
            for (int p = 0; p < Columns::packs; ++p) {
                const auto v = load_pack<Columns::pack>(values + (s + e) * pitch + Columns::first(p));
#pragma unroll
                for (int i = 0; i < each; ++i)
#pragma unroll
                    for (int c = 0; c < Columns::pack; ++c)
                        sums[i][p * Columns::pack + c] += w[i].at[e] * v.at[c];
            }
    }
}

// Over the 16 threads that share their rows.
template <class T, class Operation>
__device__ T reduce_row(T value, Operation op) {
#pragma unroll
    for (int offset = side / 2; offset > 0; offset /= 2)
        value = op(value, __shfl_xor_sync(whole_warp, value, offset));
    return value;
}

template <class T>
__device__ void store_weights(T* weights, const T (&tile)[ExactScoreTile<T>::each][ExactScoreTile<T>::each]) {
    using Tile = ExactScoreTile<T>;
    __syncwarp();  // these rows are read by this half-warp alone
#pragma unroll
    for (int i = 0; i < Tile::each; ++i)
#pragma unroll
        for (int j = 0; j < Tile::each; ++j)
            weights[Tile::row(i) * Tile::weights_pitch + Tile::column(j)] = tile[i][j];
    __syncwarp();
}

// The running softmax of a thread's rows. The maximum is the row's; the sum is this thread's share of it.
template <class T>
struct ExactSoftmax {
    static constexpr int each = ExactScoreTile<T>::each;
    T maximum[each], sum[each];

    __device__ ExactSoftmax() {
#pragma unroll
        for (int i = 0; i < each; ++i) {
            maximum[i] = -T(INFINITY);
            sum[i] = 0;
        }
    }

    // scores -> exp(scores - maximum); factor = exp(old maximum - new). A score of -inf becomes 0.
    __device__ void add(T (&scores)[each][each], T (&factor)[each]) {
#pragma unroll
        for (int i = 0; i < each; ++i) {
            T high = scores[i][0];
#pragma unroll
            for (int j = 1; j < each; ++j) high = Max{}(high, scores[i][j]);
            high = Max{}(maximum[i], reduce_row(high, Max{}));
            const T finite = high == -T(INFINITY) ? T(0) : high;  // no key yet
            factor[i] = exp(maximum[i] - finite);
            maximum[i] = high;
            sum[i] *= factor[i];
#pragma unroll
            for (int j = 0; j < each; ++j) {
                scores[i][j] = exp(scores[i][j] - finite);
                sum[i] += scores[i][j];
            }
        }
    }
};

}  // namespace sieve::cuda
