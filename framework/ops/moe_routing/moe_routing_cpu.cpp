#include <cmath>

#include "framework/core/threads.h"
#include "framework/ops/moe_routing/kernels.h"
#include "framework/routing/expert_load.h"

namespace sieve::cpu {
namespace {

// Both softmaxes share the exponentials: the largest logit of the row is also the largest selected one.
template <class T>
void softmaxes(const T* logits, int64_t experts, int64_t k, const int32_t* selected, T factor, T* p,
               T* weights) {
    const T largest = logits[selected[0]];
    T sum = 0, selected_sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += p[e] = std::exp(logits[e] - largest);
    for (int64_t j = 0; j < k; ++j) selected_sum += weights[j] = p[selected[j]];
    for (int64_t e = 0; e < experts; ++e) p[e] /= sum;
    for (int64_t j = 0; j < k; ++j)
        weights[j] = factor == T(0) ? weights[j] / selected_sum : factor * p[selected[j]];
}

// Fills the rows [begin, end) and adds their probabilities and assignments to sums[E], counts[E].
template <class T>
void forward_rows(const MoeRoutingForward<T>& a, int64_t begin, int64_t end, double* sums, int64_t* counts) {
    for (int64_t n = begin; n < end; ++n) {
        const T* logits = a.logits + n * a.experts;
        int32_t* selected = a.selected + n * a.top_k;
        T* p = a.probabilities + n * a.experts;
        select_largest(logits, a.experts, a.top_k, selected);
        softmaxes(logits, a.experts, a.top_k, selected, a.factor, p, a.weights + n * a.top_k);
        for (int64_t e = 0; e < a.experts; ++e) sums[e] += static_cast<double>(p[e]);
        for (int64_t j = 0; j < a.top_k; ++j) ++counts[selected[j]];
    }
}

template <class T>
void backward_row(const MoeRoutingBackward<T>& a, int64_t n, T balancing_scale) {
    T* dlogits = a.dlogits + n * a.experts;
    const T* p = a.probabilities + n * a.experts;
    T mean = 0;
    if (a.dload_balancing)
        for (int64_t e = 0; e < a.experts; ++e) mean += a.shares[e] * p[e];
    for (int64_t e = 0; e < a.experts; ++e)
        dlogits[e] = a.dload_balancing ? balancing_scale * p[e] * (a.shares[e] - mean) : T(0);
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
}

}  // namespace

template <class T>
void moe_routing_forward(const MoeRoutingForward<T>& a) {
    *a.load_balancing = route_and_balance(a.tokens, a.experts, a.top_k, a.shares,
                                          [&](int64_t begin, int64_t end, double* sums, int64_t* counts) {
                                              forward_rows(a, begin, end, sums, counts);
                                          });
}

template <class T>
void moe_routing_backward(const MoeRoutingBackward<T>& a) {
    const T scale = a.dload_balancing && a.tokens
                        ? *a.dload_balancing * static_cast<T>(a.experts) / static_cast<T>(a.tokens)
                        : T(0);
    parallel_for(a.tokens, 2 * routing_chunk_rows, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) backward_row(a, n, scale);
    });
}

template void moe_routing_forward(const MoeRoutingForward<float>&);
template void moe_routing_forward(const MoeRoutingForward<double>&);
template void moe_routing_backward(const MoeRoutingBackward<float>&);
template void moe_routing_backward(const MoeRoutingBackward<double>&);

}  // namespace sieve::cpu
