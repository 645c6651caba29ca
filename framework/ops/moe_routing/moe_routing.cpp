#include "framework/ops/moe_routing/moe_routing.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/moe_routing/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "moe_routing";

struct Saved {
    Tensor weights, experts;       // [N,K]
    Tensor probabilities, shares;  // [N,E], [E]
    RouterWeights kind;
};

void check(const Tensor& logits, int64_t top_k) {
    check_rank(op, "logits", logits, 2);
    if (top_k < 1 || top_k > logits.dim(1))
        fail(std::string(op) + ": top_k is " + std::to_string(top_k) + ", want 1 to " +
             std::to_string(logits.dim(1)) + " (the number of experts)");
}

template <class T>
std::vector<Tensor> backward_of(const std::vector<Tensor>& grads, const Saved& s) {
    const Tensor& p = s.probabilities;
    const Tensor dlogits = Tensor::empty(p.shape(), p.dtype(), p.device());
    launch(op, p.device(), cpu::moe_routing_backward<T>, cuda::moe_routing_backward<T>,
           MoeRoutingBackward<T>{.dweights = grads[0].defined() ? grads[0].data<T>() : nullptr,
                                 .dload_balancing = grads[1].defined() ? grads[1].data<T>() : nullptr,
                                 .weights = s.weights.data<T>(),
                                 .selected = s.experts.data<int32_t>(),
                                 .probabilities = p.data<T>(),
                                 .shares = s.shares.data<T>(),
                                 .dlogits = dlogits.data<T>(),
                                 .through_all = s.kind != RouterWeights::selected,
                                 .tokens = p.dim(0),
                                 .experts = p.dim(1),
                                 .top_k = s.weights.dim(1)});
    return {dlogits};
}

// See MoeRoutingForward.
double factor_of(RouterWeights kind, int64_t experts) {
    if (kind == RouterWeights::all) return 1;
    return kind == RouterWeights::scaled ? static_cast<double>(experts) : 0;
}

}  // namespace

Routing moe_routing(const Tensor& logits, int64_t top_k, RouterWeights weights) {
    check(logits, top_k);
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    const DType dtype = logits.dtype();
    const Device device = logits.device();
    const Routing out{.weights = Tensor::empty({tokens, top_k}, dtype, device),
                      .experts = Tensor::empty({tokens, top_k}, DType::int32, device),
                      .load_balancing = Tensor::empty({}, dtype, device)};
    const Tensor probabilities = Tensor::empty({tokens, experts}, dtype, device);
    const Tensor shares = Tensor::empty({experts}, dtype, device);
    dispatch_float(op, dtype, [&]<class T>() {
        launch(op, device, cpu::moe_routing_forward<T>, cuda::moe_routing_forward<T>,
               MoeRoutingForward<T>{.logits = logits.data<T>(),
                                    .weights = out.weights.data<T>(),
                                    .selected = out.experts.data<int32_t>(),
                                    .probabilities = probabilities.data<T>(),
                                    .shares = shares.data<T>(),
                                    .load_balancing = out.load_balancing.data<T>(),
                                    .factor = static_cast<T>(factor_of(weights, experts)),
                                    .tokens = tokens,
                                    .experts = experts,
                                    .top_k = top_k});
    });
    const Saved saved{out.weights.detach(), out.experts, probabilities, shares, weights};
    record(op, {logits}, {out.weights, out.load_balancing}, [saved](const std::vector<Tensor>& grads) {
        return dispatch_float(op, saved.weights.dtype(),
                              [&]<class T>() { return backward_of<T>(grads, saved); });
    });
    return out;
}

}  // namespace sieve
