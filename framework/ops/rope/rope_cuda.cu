// One thread turns n pairs of one head: n = 4 for float32 (two loads and two stores of 16 bytes, and 16 bytes
// each of cosines and sines, which all heads of a token find in the L1 cache), 2 for float64, and 1 where
// sizes or addresses are odd. Dims that are not turned are moved in units of the same 2 n elements. The units
// of a head come first, then the heads, then tokens and batches; one launch for all parts of a qkv
// projection.
//
//   interleaved, n = 4:   x[8i .. 8i+7]                       half_split:   x[4i .. 4i+3], x[R/2+4i ..]
//
// 8 bytes and 3 FLOPs an element. 2048 tokens x 768 float32, in and out: 4 us at 3 TB/s. Deterministic.
#include "framework/core/cuda/packs.cuh"
#include "framework/ops/rope/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int threads = 256;

// Units of 2 n elements in one head.
template <int n, class T>
__host__ __device__ int64_t units_of(const RopeMove<T>& m) {
    return (m.head_dim + 2 * n - 1) / (2 * n);
}

// Writes the turned pairs: u[e], v[e] are pair e.
template <int n, class T>
__device__ void turn(const Pack<T, n>& u, const Pack<T, n>& v, const T* cosines, const T* sines,
                     Pack<T, n>& turned_u, Pack<T, n>& turned_v) {
    const Pack<T, n> c = load_pack<n>(cosines), s = load_pack<n>(sines);
    for (int e = 0; e < n; ++e) {
        turned_u.at[e] = u.at[e] * c.at[e] - v.at[e] * s.at[e];
        turned_v.at[e] = u.at[e] * s.at[e] + v.at[e] * c.at[e];
    }
}

template <int n, class T>
__device__ void turn_interleaved(const T* x, T* y, const T* cosines, const T* sines) {
    const Pack<T, n> low = load_pack<n>(x), high = load_pack<n>(x + n);
    Pack<T, n> u, v, turned_u, turned_v, out[2];
    for (int e = 0; e < n; ++e) {
        u.at[e] = 2 * e < n ? low.at[2 * e % n] : high.at[2 * e % n];
        v.at[e] = 2 * e + 1 < n ? low.at[(2 * e + 1) % n] : high.at[(2 * e + 1) % n];
    }
    turn<n>(u, v, cosines, sines, turned_u, turned_v);
    for (int e = 0; e < n; ++e) {
        out[2 * e / n].at[2 * e % n] = turned_u.at[e];
        out[(2 * e + 1) / n].at[(2 * e + 1) % n] = turned_v.at[e];
    }
    store_pack(y, out[0]);
    store_pack(y + n, out[1]);
}

template <int n, class T>
__device__ void turn_halves(const T* x, T* y, const T* cosines, const T* sines, int64_t half) {
    Pack<T, n> turned_u, turned_v;
    turn<n>(load_pack<n>(x), load_pack<n>(x + half), cosines, sines, turned_u, turned_v);
    store_pack(y, turned_u);
    store_pack(y + half, turned_v);
}

// Two packs of one head as they are, or zeros; the last of them may lie beyond its end.
template <int n, class T>
__device__ void move(const T* x, T* y, int64_t left) {
    for (int64_t j = 0; j < 2 * n && j < left; j += n)
        store_pack(y + j, x ? load_pack<n>(x + j) : Pack<T, n>{});
}

template <int n, class T>
__global__ void __launch_bounds__(threads) rope_kernel(RopeMoves<T> a) {
    const RopeMove<T> m = a.moves[blockIdx.y];
    const int64_t units = units_of<n>(m), pairs = m.rotary_dims / 2;
    int64_t index = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
    if (index >= m.batches * m.tokens * m.heads * units) return;
    const int64_t unit = index % units;
    index /= units;
    const int64_t head = index % m.heads;
    index /= m.heads;
    const int64_t token = index % m.tokens, batch = index / m.tokens;
    const T* const x = m.x ? m.x + batch * m.x_batch + token * m.x_token + head * m.x_head : nullptr;
    T* const y = m.y + batch * m.y_batch + token * m.y_token + head * m.y_head;
    const int64_t pair = unit * n, first = 2 * pair;
    if (!x || pair >= pairs) return move<n>(x ? x + first : nullptr, y + first, m.head_dim - first);
    const T* const cosines = m.cosines + token * pairs + pair;
    const T* const sines = m.sines + token * pairs + pair;
    if (m.interleaved)
        turn_interleaved<n>(x + first, y + first, cosines, sines);
    else
        turn_halves<n>(x + pair, y + pair, cosines, sines, pairs);
}

template <int n, class T>
void launch_moves(const RopeMoves<T>& a) {
    unsigned blocks = 0;
    for (int i = 0; i < a.count; ++i) {
        const RopeMove<T>& m = a.moves[i];
        const unsigned wanted = blocks_for(m.batches * m.tokens * m.heads * units_of<n>(m), threads);
        blocks = wanted > blocks ? wanted : blocks;
    }
    launch_kernel(rope_kernel<n, T>,
                  {.blocks = dim3(blocks, static_cast<unsigned>(a.count)), .threads = dim3(threads)}, a);
}

// Whether every unit is made of full packs.
template <class T>
bool packs_fit(const RopeMove<T>& m) {
    constexpr int n = full_pack<T>;
    bool fit = start_packs(m.x, m.y, m.cosines, m.sines);
    const int64_t strides[] = {m.x_batch, m.x_token, m.x_head,   m.y_batch,
                               m.y_token, m.y_head,  m.head_dim, m.rotary_dims / 2};
    for (const int64_t stride : strides) fit = fit && stride % n == 0;
    return fit;
}

}  // namespace

template <class T>
void rope_move(const RopeMoves<T>& a) {
    bool fit = true;
    for (int i = 0; i < a.count; ++i) fit = fit && packs_fit(a.moves[i]);
    fit ? launch_moves<full_pack<T>>(a) : launch_moves<1>(a);
}

template void rope_move(const RopeMoves<float>&);
template void rope_move(const RopeMoves<double>&);

}  // namespace sieve::cuda
