// One team a row (core/cuda/rows.cuh): a warp up to 4 KiB, a block beyond. A thread holds its packs of
// 16 bytes for the time of one loop only; the second loop of a row finds it in the L1 cache.
//
// forward:   8 bytes an element from and to memory, 5 FLOPs
// backward:  12 bytes an element, 12 FLOPs: dx and the row's part of dweight in one pass. dweight is added up
//            in shared memory (each thread its own columns), and the blocks' sums by column_sums.
//
// Bound by memory: 2048 x 256 float32 fits the L2 cache (about 2 us forward, 4 us backward with its two
// launches); 65536 x 256 takes 45 us and 67 us at 3 TB/s. Deterministic: the rows of a team and the order of
// all sums depend on the shape alone.
#include "framework/core/cuda/column_sums.cuh"
#include "framework/core/cuda/rows.cuh"
#include "framework/core/tensor.h"
#include "framework/ops/rms_norm/kernels.h"

namespace sieve::cuda {
namespace {

template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) forward_rows(RmsNormForward<T> a) {
    using P = Pack<T, n>;
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T* const x = a.x + row * a.width;
    T squares = 0;
    const auto add_squares = [&](int64_t, const P& in) {
        for (int e = 0; e < n; ++e) squares += in.at[e] * in.at[e];
    };
    for_each_pack<n>(team, a.width, add_squares, x);
    squares = team_sum(team, squares);
    const T r = T(1) / sqrt(squares / static_cast<T>(a.width) + static_cast<T>(a.eps));
    const auto write = [&](int64_t j, const P& in, const P& weight) {
        P out;
        for (int e = 0; e < n; ++e) out.at[e] = in.at[e] * r * weight.at[e];
        store_pack(a.y + row * a.width + j, out);
    };
    for_each_pack<n>(team, a.width, write, x, a.weight);
    if (team.rank() == 0) a.rstd[row] = r;
}

// One row of dx, unless it is not wanted, and what the row adds to dweight, unless `sums` is null.
template <int n, class Team, class T>
__device__ void backward_row(const Team& team, const RmsNormBackward<T>& a, int64_t row, T* sums) {
    using P = Pack<T, n>;
    const T* const x = a.x + row * a.width;
    const T* const dy = a.dy + row * a.width;
    const T r = a.rstd[row];
    T dot = 0;
    const auto add_products = [&](int64_t, const P& in, const P& d, const P& weight) {
        for (int e = 0; e < n; ++e) dot += in.at[e] * weight.at[e] * d.at[e];
    };
    if (a.dx) for_each_pack<n>(team, a.width, add_products, x, dy, a.weight);
    const T c = r * r * r * team_sum(team, dot) / static_cast<T>(a.width);
    const auto write = [&](int64_t j, const P& in, const P& d, const P& weight) {
        P out;
        for (int e = 0; e < n; ++e) out.at[e] = r * weight.at[e] * d.at[e] - c * in.at[e];
        if (a.dx) store_pack(a.dx + row * a.width + j, out);
        if (!sums) return;
        P sum = load_pack<n>(sums + j);
        for (int e = 0; e < n; ++e) sum.at[e] += d.at[e] * in.at[e] * r;
        store_pack(sums + j, sum);
    };
    for_each_pack<n>(team, a.width, write, x, dy, a.weight);
}

// partial: [blocks, width], or null when dweight is not wanted.
template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) backward_rows(RmsNormBackward<T> a, T* partial) {
    const Team team;
    T* const block_sums = partial ? partial + blockIdx.x * a.width : nullptr;
    T* const sums = partial ? team_sums(team, block_sums, a.width) : nullptr;
    if (sums) for_each_pack<n>(team, a.width, [&](int64_t j) { store_pack(sums + j, Pack<T, n>{}); });
    const int64_t stride = static_cast<int64_t>(gridDim.x) * Team::count;
    for (int64_t row = own_row(team); row < a.rows; row += stride) backward_row<n>(team, a, row, sums);
    if (partial) join_team_sums<Team>(block_sums, a.width);
}

}  // namespace

template <class T>
void rms_norm_forward(const RmsNormForward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.x, a.weight, a.y), [&]<int n, class Team>() {
        launch_kernel(forward_rows<n, Team, T>, row_grid<Team>(a.rows), a);
    });
}

template <class T>
void rms_norm_backward(const RmsNormBackward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.dy, a.x, a.weight, a.dx), [&]<int n, class Team>() {
        const int64_t blocks = summing_blocks<Team>(a.rows);
        Tensor partial;
        if (a.dweight) partial = Tensor::empty(Shape{blocks, a.width}, dtype_of<T>, device);
        T* const sums = a.dweight ? partial.data<T>() : nullptr;
        launch_kernel(backward_rows<n, Team, T>,
                      {.blocks = dim3(blocks),
                       .threads = dim3(row_threads),
                       .shared_bytes = sums ? team_sums_bytes<Team, T>(a.width) : 0},
                      a, sums);
        if (sums)
            column_sums<T>(
                {.x = sums, .rows = blocks, .stride = a.width, .width = a.width, .sums = a.dweight});
    });
}

template void rms_norm_forward(const RmsNormForward<float>&);
template void rms_norm_forward(const RmsNormForward<double>&);
template void rms_norm_backward(const RmsNormBackward<float>&);
template void rms_norm_backward(const RmsNormBackward<double>&);

}  // namespace sieve::cuda
