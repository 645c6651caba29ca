// Forward, three launches: one thread a token selects its experts and computes both softmaxes (E is small,
// its logits stay in the L1 cache); one block an expert adds up its column of p and its assignments, in
// float64; one thread adds up the balancing loss. Backward: one thread a token. Latency bound. Deterministic:
// all sums in fixed orders.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"
#include "framework/ops/moe_routing/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int expert_threads = 256;

// Insertion into a list of at most k, best first: only a strictly larger logit overtakes, so a tie keeps the
// lower index in front, and a NaN never moves forward.
template <class T>
__device__ void select_largest(const T* logits, int64_t experts, int64_t k, int32_t* selected) {
    int64_t size = 0;
    for (int64_t e = 0; e < experts; ++e) {
        int64_t at = size;
        while (at > 0 && logits[e] > logits[selected[at - 1]]) --at;
        if (at == k) continue;
        size = size + 1 < k ? size + 1 : k;
        for (int64_t i = size - 1; i > at; --i) selected[i] = selected[i - 1];
        selected[at] = static_cast<int32_t>(e);
    }
}

template <class T>
__device__ void route_token(const MoeRoutingForward<T>& a, int64_t n) {
    const T* logits = a.logits + n * a.experts;
    int32_t* selected = a.selected + n * a.top_k;
    T* p = a.probabilities + n * a.experts;
    T* weights = a.weights + n * a.top_k;
    select_largest(logits, a.experts, a.top_k, selected);
    const T largest = logits[selected[0]];
    T sum = 0, selected_sum = 0;
    for (int64_t e = 0; e < a.experts; ++e) sum += p[e] = exp(logits[e] - largest);
    for (int64_t j = 0; j < a.top_k; ++j) selected_sum += weights[j] = p[selected[j]];
    for (int64_t e = 0; e < a.experts; ++e) p[e] /= sum;
    for (int64_t j = 0; j < a.top_k; ++j) weights[j] /= selected_sum;
}

// shares[e], and terms[e] = share times mean probability.
template <class T>
__global__ void __launch_bounds__(expert_threads) expert_shares(MoeRoutingForward<T> a, double* terms) {
    __shared__ double scratch[warp_size];
    const int64_t e = blockIdx.x, slots = a.tokens * a.top_k;
    double sum = 0, count = 0;
    for (int64_t n = threadIdx.x; n < a.tokens; n += expert_threads)
        sum += static_cast<double>(a.probabilities[n * a.experts + e]);
    for (int64_t s = threadIdx.x; s < slots; s += expert_threads) count += a.selected[s] == e;
    sum = block_reduce(sum, 0.0, Sum{}, scratch);
    count = block_reduce(count, 0.0, Sum{}, scratch);
    if (threadIdx.x != 0) return;
    const double tokens = static_cast<double>(a.tokens > 0 ? a.tokens : 1);
    const double share = count / (tokens * static_cast<double>(a.top_k));
    a.shares[e] = static_cast<T>(share);
    terms[e] = share * (sum / tokens);
}

}  // namespace

template <class T>
void moe_routing_forward(const MoeRoutingForward<T>& a) {
    for_each_element(a.tokens, [a] __device__(int64_t n) { route_token(a, n); });
    const Tensor scratch = Tensor::empty(Shape{a.experts}, DType::float64, device);
    double* terms = scratch.data<double>();
    launch_kernel(expert_shares<T>,
                  {.blocks = dim3(static_cast<unsigned>(a.experts)), .threads = dim3(expert_threads)}, a,
                  terms);
    for_each_element(1, [a, terms] __device__(int64_t) {
        double balancing = 0;
        for (int64_t e = 0; e < a.experts; ++e) balancing += terms[e];
        *a.load_balancing = static_cast<T>(static_cast<double>(a.experts) * balancing);
    });
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
        for (int64_t j = 0; j < a.top_k; ++j) dlogits[a.selected[n * a.top_k + j]] += w[j] * (dw[j] - dot);
    });
}

template void moe_routing_forward(const MoeRoutingForward<float>&);
template void moe_routing_forward(const MoeRoutingForward<double>&);
template void moe_routing_backward(const MoeRoutingBackward<float>&);
template void moe_routing_backward(const MoeRoutingBackward<double>&);

}  // namespace sieve::cuda
