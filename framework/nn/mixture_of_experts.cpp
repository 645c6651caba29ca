#include "framework/nn/mixture_of_experts.h"

#include "framework/ops/dropout/dropout.h"
#include "framework/ops/grouped_linear/grouped_linear.h"
#include "framework/ops/moe_combine/moe_combine.h"
#include "framework/ops/moe_dispatch/moe_dispatch.h"
#include "framework/ops/moe_routing/moe_routing.h"
#include "framework/ops/noise/noise.h"
#include "framework/ops/silu/silu.h"

namespace sieve {

Expert::Expert(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t d_ff)
    : linear1(init, full_name + ".linear1", d_model, d_ff),
      linear2(init, full_name + ".linear2", d_ff, d_model) {
    add_child("linear1", linear1);
    add_child("linear2", linear2);
}

Router::Router(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t num_experts)
    : gate(init, full_name + ".gate", d_model, num_experts) {
    add_child("gate", gate);
}

MixtureOfExperts::MixtureOfExperts(const ParameterInit& init, const std::string& full_name,
                                   const MixtureOfExpertsConfig& config)
    : config_(config), router_(init, full_name + ".router", config.d_model, config.num_experts) {
    add_child("router", router_);
    for (int64_t e = 0; e < config.num_experts; ++e) {
        const std::string name = "experts." + std::to_string(e);
        experts_.push_back(
            std::make_unique<Expert>(init, full_name + "." + name, config.d_model, config.d_ff));
        add_child(name, *experts_.back());
        first_weights_.push_back(experts_.back()->linear1.weight());
        second_weights_.push_back(experts_.back()->linear2.weight());
    }
}

MixtureOfExpertsOutput MixtureOfExperts::operator()(const Tensor& x, Generator* rng) const {
    Tensor logits = router_.gate(x);
    if (rng && config_.router_noise > 0)
        logits = add_normal_noise(logits, config_.router_noise, rng->next_key());
    const Routing routing = moe_routing(logits, config_.top_k);
    const DispatchPlan plan = plan_dispatch(routing.experts, config_.num_experts);

    Tensor hidden = grouped_linear(moe_dispatch(x, plan), plan, first_weights_);
    hidden = rng ? silu_dropout(hidden, config_.dropout, rng->next_key()) : silu(hidden);
    const Tensor outputs = grouped_linear(hidden, plan, second_weights_);
    return {moe_combine(outputs, routing.weights, plan), routing.load_balancing};
}

}  // namespace sieve
