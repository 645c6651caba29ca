// Private to this room.
// How a warp reads rows of selected keys. It is divided into teams of `lanes`; a team reads a row of
// lanes * packs packs of 16 bytes, and every team another row:
//
//   rank         0     1    ..  lanes-1 | 0 ..                    a lane holds `columns` elements of its row
//   team 0  row [pack][pack]   [pack    |pack] ..  packs times
//   team 1  row [pack]..
#pragma once

#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

template <class E, class T, int team_lanes, int team_packs>
struct GatherTeam {
    using Element = E;  // in memory
    using Value = T;    // in registers
    static constexpr int lanes = team_lanes, packs = team_packs, n = full_pack<E>;
    static constexpr int width = lanes * packs * n, teams = warp_size / lanes, columns = packs * n;

    struct Row {
        Pack<E, n> at[packs];
    };

    __device__ static int index() { return threadIdx.x % warp_size / lanes; }
    // Of the e-th element of a lane's pack p in the row.
    __device__ static int column(int p, int e = 0) { return (p * lanes + threadIdx.x % lanes) * n + e; }

    __device__ static Row load(const E* row) {
        Row r;
#pragma unroll
        for (int p = 0; p < packs; ++p) r.at[p] = load_pack<n>(row + column(p));
        return r;
    }
    // Zeros unless there is a row.
    __device__ static Row load_if(bool there, const E* row) {
        Row r = {};
        if (there) r = load(row);
        return r;
    }
    __device__ static void values(T (&x)[columns], const Row& row) {
#pragma unroll
        for (int p = 0; p < packs; ++p)
#pragma unroll
            for (int e = 0; e < n; ++e) x[p * n + e] = static_cast<T>(row.at[p].at[e]);
    }
    __device__ static T dot(const T (&x)[columns], const Row& row) {
        T sum = 0;
#pragma unroll
        for (int p = 0; p < packs; ++p)
#pragma unroll
            for (int e = 0; e < n; ++e) sum += x[p * n + e] * static_cast<T>(row.at[p].at[e]);
#pragma unroll
        for (int offset = lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(whole_warp, sum, offset);
        return sum;
    }
    // sums += weight * row
    __device__ static void add(T (&sums)[columns], T weight, const Row& row) {
#pragma unroll
        for (int p = 0; p < packs; ++p)
#pragma unroll
            for (int e = 0; e < n; ++e) sums[p * n + e] += weight * static_cast<T>(row.at[p].at[e]);
    }
    // Over the lanes of equal rank in all teams.
    template <class Operation>
    __device__ static T merge(T value, Operation op) {
#pragma unroll
        for (int offset = lanes; offset < warp_size; offset *= 2)
            value = op(value, __shfl_xor_sync(whole_warp, value, offset));
        return value;
    }
    // to[column] = x + factor * (sums of all teams), where x is what is there already, or 0.
    __device__ static void store_merged(T* to, int64_t row_columns, const T (&sums)[columns], T factor,
                                        bool add_to) {
#pragma unroll
        for (int p = 0; p < packs; ++p)
#pragma unroll
            for (int e = 0; e < n; ++e) {
                const T sum = factor * merge(sums[p * n + e], Sum{});
                if (index() != 0 || column(p, e) >= row_columns) continue;
                to[column(p, e)] = add_to ? to[column(p, e)] + sum : sum;
            }
    }
};

}  // namespace sieve::cuda
