// What the routing ops share on CUDA: picking a token's experts, and the load-balancing loss over all tokens.
#pragma once

#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"

namespace sieve::cuda {

// Insertion into a list of at most k, best first: only a strictly larger score overtakes, so a tie keeps the
// lower index in front, and a NaN never moves forward. score(e) may be called several times.
template <class Score>
__device__ void select_largest(const Score& score, int64_t experts, int64_t k, int32_t* selected) {
    int64_t size = 0;
    for (int64_t e = 0; e < experts; ++e) {
        int64_t at = size;
        while (at > 0 && score(e) > score(selected[at - 1])) --at;
        if (at == k) continue;
        size = size + 1 < k ? size + 1 : k;
        for (int64_t i = size - 1; i > at; --i) selected[i] = selected[i - 1];
        selected[at] = static_cast<int32_t>(e);
    }
}

template <class T>
struct ExpertLoad {
    const int32_t* selected;  // [tokens, top_k]
    T* shares;                // [experts], f
    T* load_balancing;        // [1], E sum_e f_e P_e
    int64_t tokens, experts, top_k;
};

constexpr int expert_threads = 256;

// One block an expert: its share of all assignments, and terms[e] = share times its mean probability, in
// float64.
template <class T, class Probability>
__global__ void __launch_bounds__(expert_threads)
    expert_shares(ExpertLoad<T> a, double* terms, Probability probability) {
    __shared__ double scratch[warp_size];
    const int64_t e = blockIdx.x, slots = a.tokens * a.top_k;
    double sum = 0, count = 0;
    for (int64_t n = threadIdx.x; n < a.tokens; n += expert_threads)
        sum += static_cast<double>(probability(n, e));
    for (int64_t s = threadIdx.x; s < slots; s += expert_threads) count += a.selected[s] == e;
    sum = block_reduce(sum, 0.0, Sum{}, scratch);
    count = block_reduce(count, 0.0, Sum{}, scratch);
    if (threadIdx.x != 0) return;
    const double tokens = static_cast<double>(a.tokens > 0 ? a.tokens : 1);
    const double share = count / (tokens * static_cast<double>(a.top_k));
    a.shares[e] = static_cast<T>(share);
    terms[e] = share * (sum / tokens);
}

// Fills shares and load_balancing; probability(n, e) is a __device__ function.
template <class T, class Probability>
void measure_load(const ExpertLoad<T>& a, const Probability& probability) {
    const Tensor scratch = Tensor::empty(Shape{a.experts}, DType::float64, device);
    double* terms = scratch.data<double>();
    launch_kernel(expert_shares<T, Probability>,
                  {.blocks = dim3(static_cast<unsigned>(a.experts)), .threads = dim3(expert_threads)}, a,
                  terms, probability);
    for_each_element(1, [a, terms] __device__(int64_t) {
        double balancing = 0;
        for (int64_t e = 0; e < a.experts; ++e) balancing += terms[e];
        *a.load_balancing = static_cast<T>(static_cast<double>(a.experts) * balancing);
    });
}

}  // namespace sieve::cuda
