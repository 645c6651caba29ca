#include "framework/optim/adamw.h"

#include <cmath>

#include "framework/ops/dispatch.h"
#include "framework/optim/kernels.h"

namespace sieve {

AdamW::AdamW(const std::vector<Parameter>& parameters, const AdamWConfig& config) : config_(config) {
    for (const Parameter& p : parameters) {
        const Tensor& t = p.tensor;
        slots_.push_back({.parameter = p,
                          .exp_avg = Tensor::zeros(t.shape(), t.dtype(), t.device()),
                          .exp_avg_sq = Tensor::zeros(t.shape(), t.dtype(), t.device())});
    }
}

void AdamW::step(double learning_rate) {
    for (Slot& slot : slots_) {
        const Tensor &p = slot.parameter.tensor, grad = p.grad();
        if (!grad.defined()) continue;
        const auto t = static_cast<double>(++slot.steps);
        dispatch_float("adamw", p.dtype(), [&]<class T>() {
            launch("adamw", p.device(), cpu::adamw_step<T>, cuda::adamw_step<T>,
                   AdamWStep<T>{.parameter = p.data<T>(),
                                .grad = grad.data<T>(),
                                .exp_avg = slot.exp_avg.data<T>(),
                                .exp_avg_sq = slot.exp_avg_sq.data<T>(),
                                .count = p.numel(),
                                .beta1 = config_.beta1,
                                .beta2 = config_.beta2,
                                .eps = config_.eps,
                                .decay = 1 - learning_rate * config_.weight_decay,
                                .step_size = learning_rate / (1 - std::pow(config_.beta1, t)),
                                .second_correction = 1 / std::sqrt(1 - std::pow(config_.beta2, t))});
        });
    }
}

OptimizerState AdamW::state() const {
    OptimizerState state;
    for (const Slot& slot : slots_) {
        state.emplace_back(slot.parameter.name + ".exp_avg", slot.exp_avg);
        state.emplace_back(slot.parameter.name + ".exp_avg_sq", slot.exp_avg_sq);
        state.emplace_back(slot.parameter.name + ".step", Tensor::from(std::vector<int64_t>{slot.steps}, {}));
    }
    return state;
}

void AdamW::load_state(const OptimizerState& state) {
    StateReader reader(state);
    load_state(reader);
    reader.expect_end();
}

void AdamW::load_state(StateReader& reader) {
    for (Slot& slot : slots_) {
        const std::string& name = slot.parameter.name;
        slot.exp_avg.copy_from(reader.take(name + ".exp_avg", slot.exp_avg.shape(), slot.exp_avg.dtype()));
        slot.exp_avg_sq.copy_from(
            reader.take(name + ".exp_avg_sq", slot.exp_avg.shape(), slot.exp_avg.dtype()));
        slot.steps = *reader.take(name + ".step", {}, DType::int64).data<int64_t>();
    }
}

}  // namespace sieve
