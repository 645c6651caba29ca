// One team a row (core/cuda/rows.cuh): a warp up to 4 KiB, a block beyond. The loops after the first
// find the row in the L1 cache.
//
// forward:   8 bytes an element from and to memory, 8 FLOPs
// backward:  12 bytes an element, 16 FLOPs: dx and the row's part of dweight and dbias in one pass. These are
//            added up in shared memory (each thread its own columns), and the blocks' sums by column_sums.
//
// Bound by memory, like rms_norm: the indexer's keys, 2048 x 64 float32, take 2 us forward and 5 us backward.
// Deterministic: the rows of a team and the order of all sums depend on the shape alone.
#include "framework/core/cuda/column_sums.cuh"
#include "framework/core/cuda/rows.cuh"
#include "framework/core/tensor.h"
#include "framework/ops/layer_norm/kernels.h"

namespace sieve::cuda {
namespace {

template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) forward_rows(LayerNormForward<T> a) {
    using P = Pack<T, n>;
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T* const x = a.x + row * a.width;
    const auto width = static_cast<T>(a.width);
    T sum = 0, squares = 0;
    const auto add_elements = [&](int64_t, const P& in) {
        for (int e = 0; e < n; ++e) sum += in.at[e];
    };
    for_each_pack<n>(team, a.width, add_elements, x);
    const T mean = team_sum(team, sum) / width;
    const auto add_squares = [&](int64_t, const P& in) {
        for (int e = 0; e < n; ++e) squares += (in.at[e] - mean) * (in.at[e] - mean);
    };
    for_each_pack<n>(team, a.width, add_squares, x);
    const T r = T(1) / sqrt(team_sum(team, squares) / width + static_cast<T>(a.eps));
    const auto write = [&](int64_t j, const P& in, const P& weight, const P& bias) {
        P out;
        for (int e = 0; e < n; ++e) out.at[e] = (in.at[e] - mean) * r * weight.at[e] + bias.at[e];
        store_pack(a.y + row * a.width + j, out);
    };
    for_each_pack<n>(team, a.width, write, x, a.weight, a.bias);
    if (team.rank() != 0) return;
    a.mean[row] = mean;
    a.rstd[row] = r;
}

// Where a team adds up its rows' parts of the gradients.
template <class T>
struct Sums {
    T *weight, *bias;  // [width]
};

// One row of dx, unless it is not wanted, and what the row adds to dweight and dbias.
template <int n, class Team, class T>
__device__ void backward_row(const Team& team, const LayerNormBackward<T>& a, int64_t row,
                             const Sums<T>& sums) {
    using P = Pack<T, n>;
    const T* const x = a.x + row * a.width;
    const T* const dy = a.dy + row * a.width;
    const T r = a.rstd[row], mean = a.mean[row];
    T sum = 0, dot = 0;
    const auto add_products = [&](int64_t, const P& in, const P& d, const P& weight) {
        for (int e = 0; e < n; ++e) {
            const T g = weight.at[e] * d.at[e];
            sum += g;
            dot += g * (in.at[e] - mean) * r;
        }
    };
    if (a.dx) for_each_pack<n>(team, a.width, add_products, x, dy, a.weight);
    const T mean_g = team_sum(team, sum) / static_cast<T>(a.width);
    const T mean_gn = team_sum(team, dot) / static_cast<T>(a.width);
    const auto write = [&](int64_t j, const P& in, const P& d, const P& weight) {
        P out, dweight = load_pack<n>(sums.weight + j), dbias = load_pack<n>(sums.bias + j);
        for (int e = 0; e < n; ++e) {
            const T normalised = (in.at[e] - mean) * r;
            out.at[e] = r * (weight.at[e] * d.at[e] - mean_g - normalised * mean_gn);
            dweight.at[e] += d.at[e] * normalised;
            dbias.at[e] += d.at[e];
        }
        if (a.dx) store_pack(a.dx + row * a.width + j, out);
        store_pack(sums.weight + j, dweight);
        store_pack(sums.bias + j, dbias);
    };
    for_each_pack<n>(team, a.width, write, x, dy, a.weight);
}

// partial: [blocks, 2 width], dweight then dbias.
template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) backward_rows(LayerNormBackward<T> a, T* partial) {
    const Team team;
    T* const block_sums = partial + blockIdx.x * 2 * a.width;
    T* const first = team_sums(team, block_sums, 2 * a.width);
    const Sums<T> sums{.weight = first, .bias = first + a.width};
    for_each_pack<n>(team, a.width, [&](int64_t j) {
        store_pack(sums.weight + j, Pack<T, n>{});
        store_pack(sums.bias + j, Pack<T, n>{});
    });
    const int64_t stride = static_cast<int64_t>(gridDim.x) * Team::count;
    for (int64_t row = own_row(team); row < a.rows; row += stride) backward_row<n>(team, a, row, sums);
    join_team_sums<Team>(block_sums, 2 * a.width);
}

}  // namespace

template <class T>
void layer_norm_forward(const LayerNormForward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.x, a.weight, a.bias, a.y), [&]<int n, class Team>() {
        launch_kernel(forward_rows<n, Team, T>, row_grid<Team>(a.rows), a);
    });
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.dy, a.x, a.weight, a.dx), [&]<int n, class Team>() {
        const int64_t blocks = summing_blocks<Team>(a.rows), columns = 2 * a.width;
        const Tensor partial = Tensor::empty(Shape{blocks, columns}, dtype_of<T>, device);
        T* const sums = partial.data<T>();
        launch_kernel(backward_rows<n, Team, T>,
                      {.blocks = dim3(blocks),
                       .threads = dim3(row_threads),
                       .shared_bytes = team_sums_bytes<Team, T>(columns)},
                      a, sums);
        column_sums<T>({.x = sums, .rows = blocks, .stride = columns, .width = a.width, .sums = a.dweight});
        column_sums<T>(
            {.x = sums + a.width, .rows = blocks, .stride = columns, .width = a.width, .sums = a.dbias});
    });
}

template void layer_norm_forward(const LayerNormForward<float>&);
template void layer_norm_forward(const LayerNormForward<double>&);
template void layer_norm_backward(const LayerNormBackward<float>&);
template void layer_norm_backward(const LayerNormBackward<double>&);

}  // namespace sieve::cuda
