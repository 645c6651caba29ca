#include "framework/nn/mixture_of_experts.h"

#include "framework/autograd/autograd.h"
#include "framework/core/timed_part.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/add/add.h"
#include "framework/ops/grouped_linear/grouped_linear.h"
#include "framework/ops/moe_combine/moe_combine.h"
#include "framework/ops/moe_dispatch/moe_dispatch.h"
#include "framework/ops/moe_sigmoid_routing/moe_sigmoid_routing.h"
#include "framework/ops/noise/noise.h"

namespace sieve {
Router::Router(const ParameterInit& init, const std::string& full_name, const MixtureOfExpertsConfig& config)
    : gate(init, full_name + ".gate", config.d_model, config.num_experts),
      top_k_(config.top_k),
      weights_(config.weights),
      sigmoid_{.top_k = config.top_k,
               .scaling = config.routed_scaling,
               .normalised = config.normalised,
               .groups = config.groups,
               .top_groups = config.top_groups} {
    add_child("gate", gate);
    if (config.router == RouterKind::sigmoid_bias)
        bias_ = add_buffer("gate.e_score_correction_bias", init.constant({config.num_experts}, 0));
}

Routing Router::operator()(const Tensor& logits) const {
    return bias_.defined() ? moe_sigmoid_routing(logits, bias_, sigmoid_)
                           : moe_routing(logits, top_k_, weights_);
}

void Router::balance(const Tensor& assignments, double speed, const Tensor& guard) const {
    if (bias_.defined()) move_balancing_bias(bias_, assignments, speed, guard);
}

MixtureOfExperts::MixtureOfExperts(const ParameterInit& init, const std::string& full_name,
                                   const MixtureOfExpertsConfig& config)
    : config_(config), router_(init, full_name + ".router", config) {
    add_child("router", router_);
    for (int64_t e = 0; e < config.num_experts; ++e) {
        const std::string name = "experts." + std::to_string(e);
        experts_.push_back(std::make_unique<FeedForward>(init, full_name + "." + name, config.d_model,
                                                         config.d_ff, config.ffn));
        const FeedForward& expert = *experts_.back();
        add_child(name, expert);
        first_weights_.push_back(expert.linear1.weight());
        second_weights_.push_back(expert.linear2.weight());
        if (expert.linear3) third_weights_.push_back(expert.linear3->weight());
    }
    if (config.shared_experts == 0) return;
    shared_experts_ = std::make_unique<FeedForward>(init, full_name + ".shared_experts", config.d_model,
                                                    config.shared_experts * config.d_ff, config.ffn);
    add_child("shared_experts", *shared_experts_);
}

MixtureOfExpertsOutput MixtureOfExperts::operator()(const Tensor& x, Generator* rng) const {
    const TimedPart part(step_part::experts);
    Tensor logits = router_.gate(x);
    if (rng && config_.router_noise > 0)
        logits = add_normal_noise(logits, config_.router_noise, rng->next_key());
    const Routing routing = router_(logits);
    const DispatchPlan plan = plan_dispatch(routing.experts, config_.num_experts);

    const Tensor rows = moe_dispatch(x, plan);
    const Tensor hidden = hidden_units(
        grouped_linear(rows, plan, first_weights_),
        third_weights_.empty() ? Tensor() : grouped_linear(rows, plan, third_weights_), config_.dropout, rng);
    const Tensor outputs = grouped_linear(hidden, plan, second_weights_);
    Tensor y = moe_combine(outputs, routing.weights, plan);
    if (shared_experts_) y = add(y, (*shared_experts_)(x, config_.dropout, rng));
    return {y, routing.load_balancing, plan.offsets};
}

}  // namespace sieve
