#include <algorithm>
#include <cmath>
#include <limits>
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

// What a token's routing needs beside its row of the tensors.
template <class T>
struct Scratch {
    explicit Scratch(const MoeSigmoidRoutingForward<T>& a)
        : biased(static_cast<size_t>(a.experts)),
          groups(static_cast<size_t>(a.groups)),
          candidates(static_cast<size_t>(a.experts)) {}
    std::vector<T> biased;      // s + b
    std::vector<T> groups;      // the groups' scores
    std::vector<T> candidates;  // those of `biased` that lie in a chosen group
};

template <class T>
T best_two(const T* scores, int64_t count) {
    T first = -std::numeric_limits<T>::infinity(), second = first;
    for (int64_t i = 0; i < count; ++i) {
        if (scores[i] > first) {
            second = first;
            first = scores[i];
        } else if (scores[i] > second) {
            second = scores[i];
        }
    }
    return first + second;
}

// The best experts of the best groups. The groups' order is kept among the candidates, and with it that of equal
// scores.
template <class T>
void select_in_groups(const MoeSigmoidRoutingForward<T>& a, Scratch<T>& scratch, int32_t* chosen,
                      int32_t* selected) {
    const int64_t members = a.experts / a.groups;
    for (int64_t g = 0; g < a.groups; ++g)
        scratch.groups[static_cast<size_t>(g)] = best_two(scratch.biased.data() + g * members, members);
    select_largest(scratch.groups.data(), a.groups, a.top_groups, chosen);
    std::sort(chosen, chosen + a.top_groups);
    for (int64_t i = 0; i < a.top_groups; ++i)
        std::copy_n(scratch.biased.data() + chosen[i] * members, members,
                    scratch.candidates.data() + i * members);
    select_largest(scratch.candidates.data(), a.top_groups * members, a.top_k, selected);
    for (int64_t j = 0; j < a.top_k; ++j)
        selected[j] = static_cast<int32_t>(chosen[selected[j] / members] * members + selected[j] % members);
}

// Fills the rows [begin, end) and adds their probabilities and assignments to sums[E], counts[E].
template <class T>
void forward_rows(const MoeSigmoidRoutingForward<T>& a, int64_t begin, int64_t end, double* sums,
                  int64_t* counts) {
    Scratch<T> scratch(a);
    for (int64_t n = begin; n < end; ++n) {
        const T* logits = a.logits + n * a.experts;
        T* scores = a.scores + n * a.experts;
        T* weights = a.weights + n * a.top_k;
        int32_t* selected = a.selected + n * a.top_k;
        for (int64_t e = 0; e < a.experts; ++e) {
            scores[e] = T(1) / (T(1) + std::exp(-logits[e]));
            scratch.biased[static_cast<size_t>(e)] = scores[e] + a.bias[e];
        }
        if (a.chosen_groups)
            select_in_groups(a, scratch, a.chosen_groups + n * a.top_groups, selected);
        else
            select_largest(scratch.biased.data(), a.experts, a.top_k, selected);
        T selected_sum = static_cast<T>(tiny_score);
        for (int64_t j = 0; j < a.top_k; ++j) selected_sum += weights[j] = scores[selected[j]];
        for (int64_t j = 0; j < a.top_k; ++j) {
            weights[j] *= a.normalised ? a.scaling / selected_sum : a.scaling;
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
