// The recipe's optimiser: Muon for the hidden matrices, AdamW at a tenth of the learning rate for the rest;
// or, to compare with it, AdamW for everything at that tenth.
#pragma once

#include "framework/optim/adamw.h"
#include "framework/optim/muon.h"

namespace sieve {

struct HybridOptimizerConfig {
    double momentum = 0.95;       // of Muon
    double weight_decay = 0.01;   // of AdamW
    bool use_muon = true;         // false: AdamW for the hidden matrices too
    bool muon_gates = true;       // false: AdamW for the routers' gates, whose gradient's size then matters
    PackedRows packed_rows = {};  // of Muon
};

// True for two dims and a name without "embed", "lm_head" and "norm".
bool is_hidden_matrix(const NamedTensor& parameter);

class HybridOptimizer {
  public:
    HybridOptimizer(const NamedTensors& parameters, const HybridOptimizerConfig& config);
    void step(double learning_rate);  // parameters without a gradient are skipped
    // The halves of a step (adamw.h).
    void prepare(double learning_rate);
    void apply(const Tensor& guard = {});
    std::function<void()> plan(const Tensor& guard = {});
    void zero_grad() const;  // leaves every gradient undefined

    // The entries of both (muon.h, adamw.h). Loading them goes on bit for bit where they were taken.
    NamedTensors state() const;
    void load_state(const NamedTensors& state);
    void load_state(StateReader& reader);  // takes this optimiser's entries and leaves the others

  private:
    NamedTensors parameters_;
    Muon muon_;
    AdamW adamw_;
};

}  // namespace sieve
