// Forward, three launches: one thread a token selects its experts and computes both softmaxes (E is small,
// its logits stay in the L1 cache); one block an expert adds up its column of p and its assignments, in
// float64; one thread adds up the balancing loss. Backward: one thread a token. Latency bound. Deterministic:
// all sums in fixed orders.
#include "framework/ops/moe_routing/kernels.h"
#include "framework/routing/expert_load.cuh"

namespace sieve::cuda {
namespace {

template <class T>
__device__ void route_token(const MoeRoutingForward<T>& a, int64_t n) {
    const T* logits = a.logits + n * a.experts;
    int32_t* selected = a.selected + n * a.top_k;
    T* p = a.probabilities + n * a.experts;
    T* weights = a.weights + n * a.top_k;
    select_largest([logits](int64_t e) { return logits[e]; }, a.experts, a.top_k, selected);
    const T largest = logits[selected[0]];
    T sum = 0, selected_sum = 0;
    for (int64_t e = 0; e < a.experts; ++e) sum += p[e] = exp(logits[e] - largest);
    for (int64_t j = 0; j < a.top_k; ++j) selected_sum += weights[j] = p[selected[j]];
    for (int64_t e = 0; e < a.experts; ++e) p[e] /= sum;
    for (int64_t j = 0; j < a.top_k; ++j)
        weights[j] = a.factor == T(0) ? weights[j] / selected_sum : a.factor * p[selected[j]];
}

}  // namespace

template <class T>
void moe_routing_forward(const MoeRoutingForward<T>& a) {
    for_each_element(a.tokens, [a] __device__(int64_t n) { route_token(a, n); });
    measure_load(ExpertLoad<T>{.selected = a.selected,
                               .shares = a.shares,
                               .load_balancing = a.load_balancing,
                               .tokens = a.tokens,
                               .experts = a.experts,
                               .top_k = a.top_k},
                 [a] __device__(int64_t n, int64_t e) { return a.probabilities[n * a.experts + e]; });
}

template <class T>
void moe_routing_backward(const MoeRoutingBackward<T>& a) {
    for_each_element(a.tokens, [a] __device__(int64_t n) {
        T* dlogits = a.dlogits + n * a.experts;
        const T* p = a.probabilities + n * a.experts;
        T scale = 0, mean = 0;
        if (a.dload_balancing) {
            scale = *a.dload_balancing * static_cast<T>(a.experts) / static_cast<T>(a.tokens);
            for (int64_t e = 0; e < a.experts; ++e) mean += a.shares[e] * p[e];
        }
        for (int64_t e = 0; e < a.experts; ++e)
            dlogits[e] = a.dload_balancing ? scale * p[e] * (a.shares[e] - mean) : T(0);
        if (!a.dweights) return;
        const T* w = a.weights + n * a.top_k;
        const T* dw = a.dweights + n * a.top_k;
        T dot = 0;
        for (int64_t j = 0; j < a.top_k; ++j) dot += w[j] * dw[j];
        const T in_selected = a.through_all ? T(0) : dot;
        for (int64_t j = 0; j < a.top_k; ++j)
            dlogits[a.selected[n * a.top_k + j]] += w[j] * (dw[j] - in_selected);
        if (!a.through_all) return;
        for (int64_t e = 0; e < a.experts; ++e) dlogits[e] -= p[e] * dot;
    });
}

template void moe_routing_forward(const MoeRoutingForward<float>&);
template void moe_routing_forward(const MoeRoutingForward<double>&);
template void moe_routing_backward(const MoeRoutingBackward<float>&);
template void moe_routing_backward(const MoeRoutingBackward<double>&);

}  // namespace sieve::cuda
