#include <cmath>
#include <vector>

#include "framework/core/threads.h"
#include "framework/ops/moe_sigmoid_routing/kernels.h"
#include "framework/routing/expert_load.h"

namespace sieve::cpu {
namespace {

template <class T>
T sum_of(const T* scores, int64_t experts) {
    T sum = static_cast<T>(tiny_score);
    for (int64_t e = 0; e < experts; ++e) sum += scores[e];
    return sum;
}

// Fills the rows [begin, end) and adds their probabilities and assignments to sums[E], counts[E].
template <class T>
void forward_rows(const MoeSigmoidRoutingForward<T>& a, int64_t begin, int64_t end, double* sums,
                  int64_t* counts) {
    std::vector<T> biased(static_cast<size_t>(a.experts));
    for (int64_t n = begin; n < end; ++n) {
        const T* logits = a.logits + n * a.experts;
        T* scores = a.scores + n * a.experts;
        T* weights = a.weights + n * a.top_k;
        int32_t* selected = a.selected + n * a.top_k;
        for (int64_t e = 0; e < a.experts; ++e) {
            scores[e] = T(1) / (T(1) + std::exp(-logits[e]));
            biased[static_cast<size_t>(e)] = scores[e] + a.bias[e];
        }
        select_largest(biased.data(), a.experts, a.top_k, selected);
        T selected_sum = static_cast<T>(tiny_score);
        for (int64_t j = 0; j < a.top_k; ++j) selected_sum += weights[j] = scores[selected[j]];
        for (int64_t j = 0; j < a.top_k; ++j) {
            weights[j] *= a.scaling / selected_sum;
            ++counts[selected[j]];
        }
        const T sum = sum_of(scores, a.experts);
        for (int64_t e = 0; e < a.experts; ++e) sums[e] += static_cast<double>(scores[e] / sum);
    }
}

template <class T>
void backward_row(const MoeSigmoidRoutingBackward<T>& a, int64_t n, T balancing_scale) {
    T* dlogits = a.dlogits + n * a.experts;
    const T* s = a.scores + n * a.experts;
    const T sum = sum_of(s, a.experts);
    T mean = 0;
    if (a.dload_balancing)
        for (int64_t e = 0; e < a.experts; ++e) mean += a.shares[e] * s[e] / sum;
    for (int64_t e = 0; e < a.experts; ++e)
        dlogits[e] = a.dload_balancing ? balancing_scale * s[e] / sum * (a.shares[e] - mean) : T(0);
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
    *a.load_balancing = route_and_balance(a.tokens, a.experts, a.top_k, a.shares,
                                          [&](int64_t begin, int64_t end, double* sums, int64_t* counts) {
                                              forward_rows(a, begin, end, sums, counts);
                                          });
}

template <class T>
void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<T>& a) {
    const T scale = a.dload_balancing && a.tokens
                        ? *a.dload_balancing * static_cast<T>(a.experts) / static_cast<T>(a.tokens)
                        : T(0);
    parallel_for(a.tokens, 2 * routing_chunk_rows, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) backward_row(a, n, scale);
    });
}

template <class T>
void move_balancing_bias(const MoveBalancingBias<T>& a) {
    const double mean = static_cast<double>(a.offsets[a.experts]) / static_cast<double>(a.experts);
    for (int64_t e = 0; e < a.experts; ++e) {
        const auto load = static_cast<double>(a.offsets[e + 1] - a.offsets[e]);
        if (load != mean) a.bias[e] += load > mean ? -a.speed : a.speed;
    }
}

template void move_balancing_bias(const MoveBalancingBias<float>&);
template void move_balancing_bias(const MoveBalancingBias<double>&);
template void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<float>&);
template void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<double>&);
template void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<float>&);
template void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<double>&);

}  // namespace sieve::cpu
