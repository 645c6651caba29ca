// As moe_routing_cuda.cu: one thread a token, one block an expert for the load. Probabilities are not stored:
// a row's sum of scores is added up again where one is needed (E is small). Latency bound, deterministic.
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

template <class T>
__device__ void route_token(const MoeSigmoidRoutingForward<T>& a, int64_t n) {
    const T* logits = a.logits + n * a.experts;
    T* scores = a.scores + n * a.experts;
    T* weights = a.weights + n * a.top_k;
    int32_t* selected = a.selected + n * a.top_k;
    for (int64_t e = 0; e < a.experts; ++e) scores[e] = T(1) / (T(1) + exp(-logits[e]));
    const T* bias = a.bias;
    select_largest([scores, bias](int64_t e) { return scores[e] + bias[e]; }, a.experts, a.top_k, selected);
    T sum = static_cast<T>(tiny_score);
    for (int64_t j = 0; j < a.top_k; ++j) sum += weights[j] = scores[selected[j]];
    for (int64_t j = 0; j < a.top_k; ++j) weights[j] *= a.scaling / sum;
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
