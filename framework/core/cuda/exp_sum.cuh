// Sums of exponentials in one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax",
// 2018).
#pragma once

#include "framework/core/cuda/numbers.cuh"
#include "framework/core/cuda/rows.cuh"

namespace sieve::cuda {

// sum over the x[j] seen so far of e^(x[j] - highest). Without any, or with x[j] = -inf alone, the sum is 0
// and highest the lowest finite number; NaN and +inf make the sum NaN.
template <class T>
struct ExpSum {
    T highest = lowest<T>, sum = 0;

    template <int n>
    __device__ void add(const Pack<T, n>& x) {
        const T before = highest;
        for (int e = 0; e < n; ++e) highest = highest < x.at[e] ? x.at[e] : highest;
        sum *= exp(before - highest);
        for (int e = 0; e < n; ++e) sum += exp(x.at[e] - highest);
    }

    // Joins what the threads of a team have seen; all of them get it.
    template <class Team>
    __device__ void join(const Team& team) {
        const T before = highest;
        highest = team.reduce(highest, lowest<T>, Max());
        sum = team_sum(team, sum * exp(before - highest));
    }
};

}  // namespace sieve::cuda
