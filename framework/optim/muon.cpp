#include "framework/optim/muon.h"

#include <algorithm>
#include <numeric>

#include "framework/ops/dispatch.h"
#include "framework/optim/kernels.h"

namespace sieve {
namespace {

double cost(const Shape& shape) {
    const auto rows = static_cast<double>(shape[0]), cols = static_cast<double>(shape[1]);
    return std::min(rows, cols) * rows * cols;
}

}  // namespace

Muon::Muon(const std::vector<Parameter>& parameters, const MuonConfig& config) : config_(config) {
    for (const Parameter& p : parameters) {
        const Tensor& t = p.tensor;
        check_rank("muon", p.name.c_str(), t, 2);
        check_dtype("muon", p.name.c_str(), t, parameters[0].tensor.dtype());
        slots_.push_back(
            {.parameter = p, .momentum_buffer = Tensor::zeros(t.shape(), t.dtype(), t.device())});
    }
    by_cost_.resize(slots_.size());
    std::iota(by_cost_.begin(), by_cost_.end(), size_t{0});
    std::stable_sort(by_cost_.begin(), by_cost_.end(), [this](size_t a, size_t b) {
        return cost(slots_[a].parameter.tensor.shape()) > cost(slots_[b].parameter.tensor.shape());
    });
}

template <class T>
void Muon::step_as(double learning_rate) {
    std::vector<MuonMatrix<T>> matrices;
    for (const size_t i : by_cost_) {
        const Tensor &p = slots_[i].parameter.tensor, grad = p.grad();
        if (!grad.defined() || p.numel() == 0) continue;
        matrices.push_back({.parameter = p.data<T>(),
                            .grad = grad.data<T>(),
                            .momentum_buffer = slots_[i].momentum_buffer.data<T>(),
                            .rows = p.dim(0),
                            .cols = p.dim(1)});
    }
    launch("muon", slots_[0].parameter.tensor.device(), cpu::muon_step<T>, cuda::muon_step<T>,
           MuonStep<T>{.matrices = matrices.data(),
                       .count = static_cast<int64_t>(matrices.size()),
                       .momentum = config_.momentum,
                       .learning_rate = learning_rate});
}

void Muon::step(double learning_rate) {
    if (slots_.empty()) return;
    dispatch_float("muon", slots_[0].parameter.tensor.dtype(), [&]<class T>() { step_as<T>(learning_rate); });
}

OptimizerState Muon::state() const {
    OptimizerState state;
    for (const Slot& slot : slots_)
        state.emplace_back(slot.parameter.name + ".momentum_buffer", slot.momentum_buffer);
    return state;
}

void Muon::load_state(const OptimizerState& state) {
    StateReader reader(state);
    load_state(reader);
    reader.expect_end();
}

void Muon::load_state(StateReader& reader) {
    for (const Slot& slot : slots_) {
        const Tensor& buffer = slot.momentum_buffer;
        buffer.copy_from(
            reader.take(slot.parameter.name + ".momentum_buffer", buffer.shape(), buffer.dtype()));
    }
}

}  // namespace sieve
