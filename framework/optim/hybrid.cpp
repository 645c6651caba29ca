#include "framework/optim/hybrid.h"

namespace sieve {
namespace {

bool is_of_muon(const NamedTensor& p, const HybridOptimizerConfig& config) {
    return config.use_muon && is_hidden_matrix(p) && (config.muon_gates || !p.name.ends_with(".gate.weight"));
}

NamedTensors select(const NamedTensors& parameters, const HybridOptimizerConfig& config, bool of_muon) {
    NamedTensors selected;
    for (const NamedTensor& p : parameters)
        if (is_of_muon(p, config) == of_muon) selected.push_back(p);
    return selected;
}

}  // namespace

bool is_hidden_matrix(const NamedTensor& parameter) {
    if (parameter.tensor.rank() != 2) return false;
    for (const char* part : {"embed", "lm_head", "norm"})
        if (parameter.name.find(part) != std::string::npos) return false;
    return true;
}

HybridOptimizer::HybridOptimizer(const NamedTensors& parameters, const HybridOptimizerConfig& config)
    : parameters_(parameters),
      muon_(select(parameters, config, true),
            {.momentum = config.momentum, .packed_rows = config.packed_rows}),
      adamw_(select(parameters, config, false), {.weight_decay = config.weight_decay}) {}

void HybridOptimizer::step(double learning_rate) {
    prepare(learning_rate);
    apply();
}

void HybridOptimizer::prepare(double learning_rate) {
    muon_.prepare(learning_rate);
    adamw_.prepare(0.1 * learning_rate);
}

void HybridOptimizer::apply(const Tensor& guard) {
    plan(guard)();
}

std::function<void()> HybridOptimizer::plan(const Tensor& guard) {
    return [of_muon = muon_.plan(guard), of_adamw = adamw_.plan(guard)] {
        of_muon();
        of_adamw();
    };
}

void HybridOptimizer::zero_grad() const {
    for (const NamedTensor& p : parameters_) p.tensor.set_grad({});
}

NamedTensors HybridOptimizer::state() const {
    NamedTensors state = muon_.state();
    for (auto& entry : adamw_.state()) state.push_back(std::move(entry));
    return state;
}

void HybridOptimizer::load_state(const NamedTensors& state) {
    StateReader reader(state);
    load_state(reader);
    reader.expect_end();
}

void HybridOptimizer::load_state(StateReader& reader) {
    muon_.load_state(reader);
    adamw_.load_state(reader);
}

}  // namespace sieve
