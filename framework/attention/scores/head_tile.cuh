// Products of all heads for one tile of queries and keys, exactly. Indexer scores and attention probabilities
// are both sums over heads of a function of such products.
//
//   x[h][t][s] = q_h[t] . k_g(h)[s]        32 queries t, 64 keys s, one head after another
//
// Tile picture: 128 threads; the thread at (r, c), r < 8, c < 16, holds the products of queries r + 8 i and
// keys c + 16 j, i, j < 4, in registers. Operands pass through shared memory 128 bytes of each row at a time,
// in two stages: one is filled by asynchronous copies while the other is multiplied. Rows lie 144 bytes
// apart, so that the 4 query and 8 key rows which the lanes of a warp read together fall into different
// banks.
//
// A product is one chain of multiply-adds, ascending in the width: its bits depend on the two rows alone.
#pragma once

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/mma.cuh"
#include "framework/core/cuda/packs.cuh"

namespace sieve::cuda {

// One batch row. Query t of head h begins at q + t q_stride + h q_head, key s of head h at k + s k_stride +
// (h / group) k_head.
template <class T>
struct ScoredRows {
    const T* q;
    const T* k;
    int64_t q_stride, q_head, k_stride, k_head;
    int64_t length;  // queries, and keys
    int heads, group, width;
};

// Packs can be read where rows begin at multiples of 16 bytes. (Tensors do.)
template <class T>
__device__ bool whole_packs(int width) {
    return width > 0 && width % full_pack<T> == 0;
}

// Starts to fill one pack of shared memory with row[d...], zeros at and beyond `width`. `row` is null for a
// row of zeros; `any` is any address that may be read.
template <class T>
__device__ void fetch_pack(FullPack<T>& to, const T* row, const T* any, int d, int width, bool packs) {
    if (packs) {
        const bool there = row && d < width;
        cp_async_16(&to, there ? row + d : any, there ? 16 : 0);
        return;
    }
    FullPack<T> values;
    for (int i = 0; i < full_pack<T>; ++i) values.at[i] = row && d + i < width ? row[d + i] : T(0);
    to = values;
}

template <class T>
struct HeadTile {
    static constexpr int queries = 32, keys = 64, threads = 128, per_thread = 4;
    static constexpr int packs = 8, step = packs * full_pack<T>;  // of each row in one stage

    struct Shared {
        FullPack<T> q[2][queries][packs + 1], k[2][keys][packs + 1];
    };

    __device__ HeadTile(const ScoredRows<T>& rows, int64_t first_query, int64_t first_key, Shared& shared)
        : a_(rows), t0_(first_query), s0_(first_key), shared_(shared), packs_(whole_packs<T>(rows.width)) {}

    // Which query (key) of the tile this thread's i-th is.
    __device__ static int query(int i) { return static_cast<int>(threadIdx.x) / 64 * 4 + lane() / 8 + 8 * i; }
    __device__ static int key(int j) {
        return static_cast<int>(threadIdx.x) / 32 % 2 * 8 + lane() % 8 + 16 * j;
    }

    // Calls head(h, x) for h = 0, 1, ...: x[i][j] is the product of query(i) and key(j).
    template <class Head>
    __device__ void for_each_head(const Head& head) {
        const int steps = a_.width > step ? (a_.width + step - 1) / step : 1, all = a_.heads * steps;
        T x[per_thread][per_thread] = {};
        fetch(0, 0, 0);
        for (int i = 0, h = 0, at = 0; i < all; ++i) {
            cp_async_wait<0>();
            __syncthreads();
            const bool last = at + 1 == steps;
            if (i + 1 < all) fetch((i + 1) % 2, last ? h + 1 : h, last ? 0 : at + 1);
            multiply(i % 2, x);
            ++at;
            if (!last) continue;
            head(h, x);
#pragma unroll
            for (int r = 0; r < per_thread; ++r)
#pragma unroll
                for (int c = 0; c < per_thread; ++c) x[r][c] = T(0);
            ++h;
            at = 0;
        }
        __syncthreads();
    }

  private:
    __device__ static int lane() {
        return static_cast<int>(threadIdx.x) % 32;
    }

    __device__ void fetch(int stage, int h, int at) {
        const T* q = a_.q + h * a_.q_head;
        const T* k = a_.k + h / a_.group * a_.k_head;
#pragma unroll
        for (int i = threadIdx.x; i < (queries + keys) * packs; i += threads) {
            const int row = i / packs, pack = i % packs, d = at * step + pack * full_pack<T>;
            if (row < queries) {
                const int64_t t = t0_ + row;
                fetch_pack(shared_.q[stage][row][pack], t < a_.length ? q + t * a_.q_stride : nullptr, a_.q,
                           d, a_.width, packs_);
            } else {
                const int64_t s = s0_ + row - queries;
                fetch_pack(shared_.k[stage][row - queries][pack],
                           s < a_.length ? k + s * a_.k_stride : nullptr, a_.k, d, a_.width, packs_);
            }
        }
        cp_async_commit();
    }

    __device__ void multiply(int stage, T (&x)[per_thread][per_thread]) const {
#pragma unroll 2
        for (int pack = 0; pack < packs; ++pack) {
            FullPack<T> q[per_thread], k[per_thread];
#pragma unroll
            for (int i = 0; i < per_thread; ++i) {
                q[i] = shared_.q[stage][query(i)][pack];
                k[i] = shared_.k[stage][key(i)][pack];
            }
#pragma unroll
            for (int e = 0; e < full_pack<T>; ++e)
#pragma unroll
                for (int i = 0; i < per_thread; ++i)
#pragma unroll
                    for (int j = 0; j < per_thread; ++j) x[i][j] += q[i].at[e] * k[j].at[e];
        }
    }

    const ScoredRows<T>& a_;
    const int64_t t0_, s0_;
    Shared& shared_;
    const bool packs_;
};

}  // namespace sieve::cuda
