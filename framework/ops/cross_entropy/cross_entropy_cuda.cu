// One team a row (core/cuda/rows.cuh): a warp up to 4 KiB, a block beyond. A thread keeps the highest logit
// and the sum of exponentials of its packs (core/cuda/exp_sum.cuh), so that a row is read once.
//
// forward:   4 bytes a logit from memory, about 15 instructions; then one block adds up the losses, in
//            float64
// backward:  8 bytes a logit, in one pass: exp((logit - highest) - log sum) * factor, less the factor at the
// target
//
// 2048 x 4096 float32: 11 us forward and 22 us backward at 3 TB/s; 2048 x 49152: 135 us and 270 us.
// Deterministic: every sum has a fixed order.
#include "framework/core/cuda/exp_sum.cuh"
#include "framework/ops/cross_entropy/kernels.h"

namespace sieve::cuda {
namespace {

// The highest number and the first place where it is.
template <class T>
struct Best {
    static constexpr int32_t none = std::numeric_limits<int32_t>::max();
    T value = -infinity<T>;
    int32_t index = none;

    __device__ void add(T x, int32_t at) {
        const bool better = x > value || (x == value && at < index);
        value = better ? x : value;
        index = better ? at : index;
    }

    template <class Team>
    __device__ void join(const Team& team) {
        const T highest = team.reduce(value, -infinity<T>, Max());
        const auto lower = [](int32_t a, int32_t b) { return a < b ? a : b; };
        index = team.reduce(value == highest ? index : none, none, lower);
    }
};

template <int n, class Team, bool want_best, class T>
__global__ void __launch_bounds__(row_threads) forward_rows(CrossEntropyForward<T> a) {
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T* const logits = a.logits + row * a.vocab;
    ExpSum<T> sum;
    Best<T> best;
    const auto see = [&](int64_t j, const Pack<T, n>& x) {
        sum.add(x);
        if constexpr (want_best)
            for (int e = 0; e < n; ++e) best.add(x.at[e], static_cast<int32_t>(j) + e);
    };
    for_each_pack<n>(team, a.vocab, see, logits);
    sum.join(team);
    if constexpr (want_best) best.join(team);
    if (team.rank() != 0) return;
    const T log_sum = log(sum.sum);
    const int32_t target = a.targets[row];
    const bool valid = target >= 0 && target < a.vocab;
    a.highest[row] = sum.highest;
    a.log_sum[row] = log_sum;
    a.losses[row] = valid ? (sum.highest - logits[target]) + log_sum : not_a_number<T>;
    if constexpr (want_best) a.best[row] = best.index;
}

constexpr int totals_threads = 1024;

// One block.
template <class T>
__global__ void __launch_bounds__(totals_threads) totals_kernel(CrossEntropyForward<T> a) {
    __shared__ double scratch[warp_size];
    double sum = 0, correct = 0;
    for (int64_t i = threadIdx.x; i < a.rows; i += totals_threads) {
        sum += static_cast<double>(a.losses[i]);
        if (a.best) correct += a.best[i] == a.targets[i] ? 1 : 0;
    }
    sum = block_reduce(sum, 0.0, Sum(), scratch);
    if (a.best) correct = block_reduce(correct, 0.0, Sum(), scratch);
    if (threadIdx.x != 0) return;
    if (a.mean) *a.mean = static_cast<T>(sum / static_cast<double>(a.rows));
    if (!a.best) return;
    a.score[0] = sum;
    a.score[1] = correct;
}

template <int n, class Team, class T>
__global__ void __launch_bounds__(row_threads) backward_rows(CrossEntropyBackward<T> a) {
    const Team team;
    const int64_t row = own_row(team);
    if (row >= a.rows) return;
    const T factor = static_cast<T>(static_cast<double>(*a.dloss) / static_cast<double>(a.rows));
    const T highest = a.highest[row], log_sum = a.log_sum[row];
    const int32_t target = a.targets[row];
    const auto write = [&](int64_t j, const Pack<T, n>& x) {
        Pack<T, n> d;
        for (int e = 0; e < n; ++e)
            d.at[e] = exp((x.at[e] - highest) - log_sum) * factor - (j + e == target ? factor : T(0));
        store_pack(a.dlogits + row * a.vocab + j, d);
    };
    for_each_pack<n>(team, a.vocab, write, a.logits + row * a.vocab);
}

}  // namespace

template <class T>
void cross_entropy_forward(const CrossEntropyForward<T>& a) {
    with_row_shape<T>(a.vocab, start_packs(a.logits), [&]<int n, class Team>() {
        launch_kernel(a.best ? forward_rows<n, Team, true, T> : forward_rows<n, Team, false, T>,
                      row_grid<Team>(a.rows), a);
    });
    launch_kernel(totals_kernel<T>, {.blocks = dim3(1), .threads = dim3(totals_threads)}, a);
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackward<T>& a) {
    with_row_shape<T>(a.vocab, start_packs(a.logits, a.dlogits), [&]<int n, class Team>() {
        launch_kernel(backward_rows<n, Team, T>, row_grid<Team>(a.rows), a);
    });
}

template void cross_entropy_forward(const CrossEntropyForward<float>&);
template void cross_entropy_forward(const CrossEntropyForward<double>&);
template void cross_entropy_backward(const CrossEntropyBackward<float>&);
template void cross_entropy_backward(const CrossEntropyBackward<double>&);

}  // namespace sieve::cuda
