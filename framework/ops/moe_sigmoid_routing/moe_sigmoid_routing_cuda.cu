// As moe_routing_cuda.cu: one thread a token, one block an expert for the load. Probabilities are not stored:
// a row's sum of scores is added up again where one is needed (E is small). Latency bound, deterministic.
#include "framework/core/cuda/numbers.cuh"
#include "framework/ops/moe_sigmoid_routing/kernels.h"
#include "framework/routing/expert_load.cuh"

namespace sieve::cuda {
namespace {

template <class T>
__device__ T sum_of(const T* scores, int64_t experts) {
    T sum = static_cast<T>(tiny_score);
    for (int64_t e = 0; e < experts; ++e) sum += scores[e];
    return sum;
}

// The sum of the two largest of score(first), ..., score(first + count - 1).
template <class T, class Score>
__device__ T best_two(const Score& score, int64_t first, int64_t count) {
    T best = -infinity<T>, second = best;
    for (int64_t e = first; e < first + count; ++e) {
        const T s = score(e);
        if (s > best) {
            second = best;
            best = s;
        } else if (s > second) {
            second = s;
        }
    }
    return best + second;
}

// As on the CPU: the candidates are the experts of the chosen groups, in their order.
template <class T, class Score>
__device__ void select_in_groups(const MoeSigmoidRoutingForward<T>& a, const Score& score, int32_t* chosen,
                                 int32_t* selected) {
    const int64_t members = a.experts / a.groups;
    select_largest([&](int64_t g) { return best_two<T>(score, g * members, members); }, a.groups,
                   a.top_groups, chosen);
    for (int64_t i = 1; i < a.top_groups; ++i)
        for (int64_t at = i; at > 0 && chosen[at] < chosen[at - 1]; --at) {
            const int32_t lower = chosen[at];
            chosen[at] = chosen[at - 1];
            chosen[at - 1] = lower;
        }
    const auto expert_of = [&](int64_t candidate) {
        return chosen[candidate / members] * members + candidate % members;
    };
    select_largest([&](int64_t candidate) { return score(expert_of(candidate)); }, a.top_groups * members,
                   a.top_k, selected);
    for (int64_t j = 0; j < a.top_k; ++j) selected[j] = static_cast<int32_t>(expert_of(selected[j]));
}

template <class T>
__device__ void route_token(const MoeSigmoidRoutingForward<T>& a, int64_t n) {
    const T* logits = a.logits + n * a.experts;
    T* scores = a.scores + n * a.experts;
    T* weights = a.weights + n * a.top_k;
    int32_t* selected = a.selected + n * a.top_k;
    for (int64_t e = 0; e < a.experts; ++e) scores[e] = T(1) / (T(1) + exp(-logits[e]));
    const T* bias = a.bias;
    const auto biased = [scores, bias](int64_t e) { return scores[e] + bias[e]; };
    if (a.chosen_groups)
        select_in_groups(a, biased, a.chosen_groups + n * a.top_groups, selected);
    else
        select_largest(biased, a.experts, a.top_k, selected);
    T sum = static_cast<T>(tiny_score);
    for (int64_t j = 0; j < a.top_k; ++j) sum += weights[j] = scores[selected[j]];
    for (int64_t j = 0; j < a.top_k; ++j) weights[j] *= a.normalised ? a.scaling / sum : a.scaling;
}

template <class T>
__device__ void backward_token(const MoeSigmoidRoutingBackward<T>& a, int64_t n) {
    T* dlogits = a.dlogits + n * a.experts;
    const T* s = a.scores + n * a.experts;
    const T sum = sum_of(s, a.experts);
    T scale = 0, mean = 0;
    if (a.dload_balancing) {
        scale = *a.dload_balancing * static_cast<T>(a.experts) / static_cast<T>(a.tokens);
        for (int64_t e = 0; e < a.experts; ++e) mean += a.shares[e] * s[e] / sum;
    }
    for (int64_t e = 0; e < a.experts; ++e)
        dlogits[e] = a.dload_balancing ? scale * s[e] / sum * (a.shares[e] - mean) : T(0);
    if (a.dweights) {
        const T* w = a.weights + n * a.top_k;
        const T* dw = a.dweights + n * a.top_k;
        T dot = 0;
        if (a.normalised)
            for (int64_t j = 0; j < a.top_k; ++j) dot += w[j] * dw[j];
        for (int64_t j = 0; j < a.top_k; ++j)
            dlogits[a.selected[n * a.top_k + j]] += w[j] * (dw[j] - dot / a.scaling);
    }
    for (int64_t e = 0; e < a.experts; ++e) dlogits[e] *= T(1) - s[e];
}

}  // namespace

template <class T>
void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<T>& a) {
    for_each_element(a.tokens, [a] __device__(int64_t n) { route_token(a, n); });
    measure_load(ExpertLoad<T>{.selected = a.selected,
                               .shares = a.shares,
                               .load_balancing = a.load_balancing,
                               .tokens = a.tokens,
                               .experts = a.experts,
                               .top_k = a.top_k},
                 [a] __device__(int64_t n, int64_t e) {
                     const T* scores = a.scores + n * a.experts;
                     return scores[e] / sum_of(scores, a.experts);
                 });
}

template <class T>
void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<T>& a) {
    for_each_element(a.tokens, [a] __device__(int64_t n) { backward_token(a, n); });
}

template <class T>
void move_balancing_bias(const MoveBalancingBias<T>& a) {
    for_each_element(a.experts, [a] __device__(int64_t e) {
        if (a.guard && !isfinite(*a.guard)) return;
        const double mean = static_cast<double>(a.offsets[a.experts]) / static_cast<double>(a.experts);
        const double load = static_cast<double>(a.offsets[e + 1] - a.offsets[e]);
        if (load != mean) a.bias[e] += load > mean ? -a.speed : a.speed;
    });
}

template void move_balancing_bias(const MoveBalancingBias<float>&);
template void move_balancing_bias(const MoveBalancingBias<double>&);
template void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<float>&);
template void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<double>&);
template void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<float>&);
template void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<double>&);

}  // namespace sieve::cuda
