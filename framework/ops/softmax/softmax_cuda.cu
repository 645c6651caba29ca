// One team a row (core/cuda/rows.cuh): a warp up to 4 KiB, a block beyond. The forward finds maximum
// and sum in one pass (core/cuda/exp_sum.cuh) and writes in a second one; the backward adds up dy y and
// writes.
//
// From memory 8 bytes an element forward and 12 backward: the second passes read the L1 cache. Router logits
// of a few thousand rows take 2 us. Deterministic.
#include "framework/core/cuda/exp_sum.cuh"
#include "framework/ops/softmax/kernels.h"

namespace sieve::cuda {
namespace {

template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) forward_rows(SoftmaxForward<T> a) {
    using P = Pack<T, n>;
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T* const x = a.x + row * a.width;
    ExpSum<T> sum;
    for_each_pack<n>(
        team, a.width, [&](int64_t, const P& in) { sum.add(in); }, x);
    sum.join(team);
    const auto write = [&](int64_t j, const P& in) {
        P out;
        for (int e = 0; e < n; ++e) out.at[e] = exp(in.at[e] - sum.highest) / sum.sum;
        store_pack(a.y + row * a.width + j, out);
    };
    for_each_pack<n>(team, a.width, write, x);
}

template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) backward_rows(SoftmaxBackward<T> a) {
    using P = Pack<T, n>;
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T* const dy = a.dy + row * a.width;
    const T* const y = a.y + row * a.width;
    T dot = 0;
    const auto add_products = [&](int64_t, const P& d, const P& out) {
        for (int e = 0; e < n; ++e) dot += d.at[e] * out.at[e];
    };
    for_each_pack<n>(team, a.width, add_products, dy, y);
    dot = team_sum(team, dot);
    const auto write = [&](int64_t j, const P& d, const P& out) {
        P dx;
        for (int e = 0; e < n; ++e) dx.at[e] = out.at[e] * (d.at[e] - dot);
        store_pack(a.dx + row * a.width + j, dx);
    };
    for_each_pack<n>(team, a.width, write, dy, y);
}

}  // namespace

template <class T>
void softmax_forward(const SoftmaxForward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.x, a.y), [&]<int n, class Team>() {
        launch_kernel(forward_rows<n, Team, T>, row_grid<Team>(a.rows), a);
    });
}

template <class T>
void softmax_backward(const SoftmaxBackward<T>& a) {
    with_row_shape<T>(a.width, start_packs(a.dy, a.y, a.dx), [&]<int n, class Team>() {
        launch_kernel(backward_rows<n, Team, T>, row_grid<Team>(a.rows), a);
    });
}

template void softmax_forward(const SoftmaxForward<float>&);
template void softmax_forward(const SoftmaxForward<double>&);
template void softmax_backward(const SoftmaxBackward<float>&);
template void softmax_backward(const SoftmaxBackward<double>&);

}  // namespace sieve::cuda
