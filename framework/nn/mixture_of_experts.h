// Mixture of experts (Shazeer et al. 2017; load balancing as in Switch Transformer, Fedus et al. 2021).
//
//   logits = x gate^T (+ noise in training)      the router selects top_k experts and weighs them
//   y      = sum over the selected e of weight_e * expert_e(x)  +  shared_experts(x)
//
// An expert is a FeedForward. Work is proportional to the selected experts: tokens are sorted by expert and each expert sees only its
// own. The shared experts see every token (DeepSeekMoE, Dai et al. 2024): they are one expert of
// shared_experts * d_ff hidden units, which is their sum.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/nn/feed_forward.h"
#include "framework/ops/moe_routing/moe_routing.h"
#include "framework/ops/moe_sigmoid_routing/moe_sigmoid_routing.h"

namespace sieve {

enum class RouterKind {
    softmax,       // the top_k largest logits, weights = softmax over those (ops/moe_routing)
    sigmoid_bias,  // DeepSeek-V3's: sigmoid scores, a bias that balances (ops/moe_sigmoid_routing)
};

template <>
inline constexpr auto enum_names<RouterWeights> =
    std::to_array<NamedValue<RouterWeights>>({{RouterWeights::selected, "selected"},
                                              {RouterWeights::all, "all"},
                                              {RouterWeights::scaled, "scaled"},
                                              {RouterWeights::straight_through, "straight_through"}});

template <>
inline constexpr auto enum_names<RouterKind> = std::to_array<NamedValue<RouterKind>>(
    {{RouterKind::softmax, "softmax"}, {RouterKind::sigmoid_bias, "sigmoid_bias"}});

struct MixtureOfExpertsConfig {
    int64_t d_model, d_ff, num_experts, top_k, shared_experts;
    FeedForwardKind ffn;
    RouterKind router;
    RouterWeights weights;  // of softmax
    // Of sigmoid_bias: see SigmoidRouting.
    double routed_scaling;
    bool normalised;
    int64_t groups, top_groups;
    double dropout, router_noise;
};

struct MixtureOfExpertsOutput {
    Tensor y;               // [N, d_model]
    Tensor load_balancing;  // scalar E * sum_e f_e P_e, unweighted
    Tensor
        assignments;  // int64 [num_experts + 1]: expert e was chosen assignments[e+1] - assignments[e] times
};

class Router : public Module {
  public:
    Router(const ParameterInit& init, const std::string& full_name, const MixtureOfExpertsConfig& config);
    Routing operator()(const Tensor& logits) const;
    // sigmoid_bias: moves the bias of each expert by `speed`, down when it was chosen more often than the
    // mean, up when less often. Nothing for softmax.
    void balance(const Tensor& assignments, double speed, const Tensor& guard) const;
    const Linear gate;

  private:
    int64_t top_k_;
    RouterWeights weights_;
    SigmoidRouting sigmoid_;
    Tensor bias_;  // [num_experts], a buffer; sigmoid_bias only
};

class MixtureOfExperts : public Module {
  public:
    MixtureOfExperts(const ParameterInit& init, const std::string& full_name,
                     const MixtureOfExpertsConfig& config);
    // x [N, d_model]. `rng` draws dropout and router noise in training; null in evaluation.
    MixtureOfExpertsOutput operator()(const Tensor& x, Generator* rng) const;
    const Router& router() const { return router_; }

  private:
    MixtureOfExpertsConfig config_;
    Router router_;
    std::vector<std::unique_ptr<FeedForward>> experts_;
    std::vector<Tensor> first_weights_, second_weights_, third_weights_;
    std::unique_ptr<FeedForward> shared_experts_;
};

}  // namespace sieve
