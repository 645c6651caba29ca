#include "framework/optim/muon.h"

#include <algorithm>
#include <numeric>

#include "framework/core/guard.h"
#include "framework/optim/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "muon";

double cost(const Shape& shape) {
    const auto rows = static_cast<double>(shape[0]), cols = static_cast<double>(shape[1]);
    return std::min(rows, cols) * rows * cols;
}

}  // namespace

Muon::Muon(const NamedTensors& parameters, const MuonConfig& config)
    : config_(config),
      device_(parameters.empty() ? Device{} : parameters[0].tensor.device()),
      learning_rate_(Tensor::zeros({}, DType::float64, device_)) {
    for (const NamedTensor& p : parameters) {
        const Tensor& t = p.tensor;
        check_rank(op, p.name.c_str(), t, 2);
        check_operand(op, p.name.c_str(), t, {"the first parameter", parameters[0].tensor});
        slots_.push_back({.parameter = p, .momentum_buffer = Tensor::zeros(t.shape(), t.dtype(), device_)});
    }
    by_cost_.resize(slots_.size());
    std::iota(by_cost_.begin(), by_cost_.end(), size_t{0});
    std::stable_sort(by_cost_.begin(), by_cost_.end(), [this](size_t a, size_t b) {
        return cost(slots_[a].parameter.tensor.shape()) > cost(slots_[b].parameter.tensor.shape());
    });
}

void Muon::step(double learning_rate) {
    prepare(learning_rate);
    apply();
}

void Muon::prepare(double learning_rate) {
    learning_rate_.fill(learning_rate);
}

void Muon::apply(const Tensor& guard) {
    plan(guard)();
}

std::function<void()> Muon::plan(const Tensor& guard) {
    if (slots_.empty()) return [] {};
    const double* pointer = guard_pointer(op, guard, {"the first parameter", slots_[0].parameter.tensor});
    return dispatch_float(op, slots_[0].parameter.tensor.dtype(),
                          [&]<class T>() { return plan_as<T>(pointer); });
}

template <class T>
std::function<void()> Muon::plan_as(const double* guard) {
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
    if (matrices.empty()) return [] {};
    // Taken here, since the kernel must not fail between two matrices.
    const Tensor scratch = device_.is_cpu() ? cpu::muon_scratch<T>(matrices) : Tensor();
    return [matrices = std::move(matrices), scratch, device = device_, momentum = config_.momentum,
            rate = learning_rate_.data<double>(), guard] {
        MuonStep<T> step{.matrices = matrices.data(),
                         .count = static_cast<int64_t>(matrices.size()),
                         .momentum = momentum,
                         .learning_rate = rate,
                         .guard = guard};
        if (scratch.defined()) {
            step.scratch = scratch.data<T>();
            step.workers = scratch.dim(0);
            step.worker_elements = scratch.dim(1);
        }
        launch(op, device, cpu::muon_step<T>, cuda::muon_step<T>, step);
    };
}

NamedTensors Muon::state() const {
    NamedTensors state;
    for (const Slot& slot : slots_)
        state.push_back({slot.parameter.name + ".momentum_buffer", slot.momentum_buffer});
    return state;
}

void Muon::load_state(const NamedTensors& state) {
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
