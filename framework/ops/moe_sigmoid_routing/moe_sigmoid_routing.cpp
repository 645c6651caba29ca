#include "framework/ops/moe_sigmoid_routing/moe_sigmoid_routing.h"

#include "framework/autograd/autograd.h"
#include "framework/core/guard.h"
#include "framework/ops/moe_sigmoid_routing/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "moe_sigmoid_routing";

struct Saved {
    Tensor weights, experts;  // [N,K]
    Tensor scores, shares;    // [N,E], [E]
    SigmoidRouting config;
};

void check_groups(int64_t experts, const SigmoidRouting& c) {
    if (c.groups == 1 && c.top_groups == 1) return;
    const int64_t members = c.groups > 0 ? experts / c.groups : 0;
    if (members < 2 || members * c.groups != experts)
        fail(std::string(op) + ": groups is " + std::to_string(c.groups) + " for " + std::to_string(experts) +
             " experts, want groups of one size, at least 2");
    if (c.top_groups < 1 || c.top_groups > c.groups || c.top_groups * members < c.top_k)
        fail(std::string(op) + ": top_groups is " + std::to_string(c.top_groups) + " of " +
             std::to_string(c.groups) + " groups of " + std::to_string(members) + " experts, want " +
             std::to_string(c.top_k) + " experts (top_k) in them");
}

void check(const Tensor& logits, const Tensor& bias, const SigmoidRouting& config) {
    const int64_t top_k = config.top_k;
    const double scaling = config.scaling;
    check_rank(op, "logits", logits, 2);
    check_shape(op, "bias", bias, {logits.dim(1)}, "one number per expert");
    check_operand(op, "bias", bias, {"logits", logits});
    if (top_k < 1 || top_k > logits.dim(1))
        fail(std::string(op) + ": top_k is " + std::to_string(top_k) + ", want 1 to " +
             std::to_string(logits.dim(1)) + " (the number of experts)");
    if (!(scaling > 0))
        fail(std::string(op) + ": scaling is " + std::to_string(scaling) + ", want more than 0");
    check_groups(logits.dim(1), config);
    if (bias.requires_grad())
        fail(std::string(op) + ": the bias wants a gradient, but none reaches it: the load moves it");
}

template <class T>
std::vector<Tensor> backward_of(const std::vector<Tensor>& grads, const Saved& s) {
    const Tensor dlogits = Tensor::empty(s.scores.shape(), s.scores.dtype(), s.scores.device());
    launch(op, dlogits.device(), cpu::moe_sigmoid_routing_backward<T>, cuda::moe_sigmoid_routing_backward<T>,
           MoeSigmoidRoutingBackward<T>{.dweights = grads[0].defined() ? grads[0].data<T>() : nullptr,
                                        .dload_balancing = grads[1].defined() ? grads[1].data<T>() : nullptr,
                                        .weights = s.weights.data<T>(),
                                        .selected = s.experts.data<int32_t>(),
                                        .scores = s.scores.data<T>(),
                                        .shares = s.shares.data<T>(),
                                        .dlogits = dlogits.data<T>(),
                                        .scaling = static_cast<T>(s.config.scaling),
                                        .normalised = s.config.normalised,
                                        .tokens = s.scores.dim(0),
                                        .experts = s.scores.dim(1),
                                        .top_k = s.weights.dim(1)});
    return {dlogits};
}

}  // namespace

Routing moe_sigmoid_routing(const Tensor& logits, const Tensor& bias, const SigmoidRouting& config) {
    check(logits, bias, config);
    const int64_t top_k = config.top_k;
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    const DType dtype = logits.dtype();
    const Device device = logits.device();
    const Routing out{.weights = Tensor::empty({tokens, top_k}, dtype, device),
                      .experts = Tensor::empty({tokens, top_k}, DType::int32, device),
                      .load_balancing = Tensor::empty({}, dtype, device)};
    const Tensor scores = Tensor::empty({tokens, experts}, dtype, device);
    const Tensor shares = Tensor::empty({experts}, dtype, device);
    const Tensor chosen_groups = config.top_groups < config.groups
                                     ? Tensor::empty({tokens, config.top_groups}, DType::int32, device)
                                     : Tensor();
    dispatch_float(op, dtype, [&]<class T>() {
        launch(op, device, cpu::moe_sigmoid_routing_forward<T>, cuda::moe_sigmoid_routing_forward<T>,
               MoeSigmoidRoutingForward<T>{
                   .logits = logits.data<T>(),
                   .bias = bias.data<T>(),
                   .weights = out.weights.data<T>(),
                   .selected = out.experts.data<int32_t>(),
                   .scores = scores.data<T>(),
                   .shares = shares.data<T>(),
                   .load_balancing = out.load_balancing.data<T>(),
                   .chosen_groups = chosen_groups.defined() ? chosen_groups.data<int32_t>() : nullptr,
                   .scaling = static_cast<T>(config.scaling),
                   .normalised = config.normalised,
                   .tokens = tokens,
                   .experts = experts,
                   .top_k = top_k,
                   .groups = config.groups,
                   .top_groups = config.top_groups});
    });
    const Saved saved{out.weights.detach(), out.experts, scores, shares, config};
    record(op, {logits}, {out.weights, out.load_balancing}, [saved](const std::vector<Tensor>& grads) {
        return dispatch_float(op, saved.weights.dtype(),
                              [&]<class T>() { return backward_of<T>(grads, saved); });
    });
    return out;
}

void move_balancing_bias(const Tensor& bias, const Tensor& offsets, double speed, const Tensor& guard) {
    constexpr const char* name = "move_balancing_bias";
    check_rank(name, "bias", bias, 1);
    check_shape(name, "offsets", offsets, {bias.dim(0) + 1}, "one more than the experts");
    check_operand(name, "offsets", offsets, {"bias", bias}, DType::int64);
    const double* allowed = guard_pointer(name, guard, {"bias", bias});
    dispatch_float(name, bias.dtype(), [&]<class T>() {
        launch(name, bias.device(), cpu::move_balancing_bias<T>, cuda::move_balancing_bias<T>,
               MoveBalancingBias<T>{.bias = bias.data<T>(),
                                    .offsets = offsets.data<int64_t>(),
                                    .guard = allowed,
                                    .speed = static_cast<T>(speed),
                                    .experts = bias.dim(0)});
    });
}

}  // namespace sieve
