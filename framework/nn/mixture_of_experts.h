// Mixture of experts (Shazeer et al. 2017; load balancing as in Switch Transformer, Fedus et al. 2021).
//
//   logits = x gate^T (+ noise in training)      the top_k largest are selected, weights = softmax over those
//   y      = sum over the selected e of weight_e * linear2_e(dropout(silu(linear1_e(x))))
//
// Work is proportional to the selected experts: tokens are sorted by expert and each expert sees only its
// own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/nn/layers.h"

namespace sieve {

struct MixtureOfExpertsConfig {
    int64_t d_model, d_ff, num_experts, top_k;
    double dropout, router_noise;
};

struct MixtureOfExpertsOutput {
    Tensor y;               // [N, d_model]
    Tensor load_balancing;  // scalar E * sum_e f_e P_e, unweighted
};

class Expert : public Module {
  public:
    Expert(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t d_ff);
    const Linear linear1, linear2;
};

class Router : public Module {
  public:
    Router(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t num_experts);
    const Linear gate;
};

class MixtureOfExperts : public Module {
  public:
    MixtureOfExperts(const ParameterInit& init, const std::string& full_name,
                     const MixtureOfExpertsConfig& config);
    // x [N, d_model]. `rng` draws dropout and router noise in training; null in evaluation.
    MixtureOfExpertsOutput operator()(const Tensor& x, Generator* rng) const;

  private:
    MixtureOfExpertsConfig config_;
    Router router_;
    std::vector<std::unique_ptr<Expert>> experts_;
    std::vector<Tensor> first_weights_, second_weights_;
};

}  // namespace sieve
