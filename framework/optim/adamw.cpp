#include "framework/optim/adamw.h"

#include "framework/core/guard.h"
#include "framework/optim/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "adamw";
}

AdamW::AdamW(const NamedTensors& parameters, const AdamWConfig& config)
    : config_(config),
      device_(parameters.empty() ? Device{} : parameters[0].tensor.device()),
      steps_(Tensor::zeros({static_cast<int64_t>(parameters.size())}, DType::int64, device_)),
      learning_rate_(Tensor::zeros({}, DType::float64, device_)) {
    for (const NamedTensor& p : parameters) {
        const Tensor& t = p.tensor;
        dispatch_float(op, t.dtype(), []<class T>() {});  // each may have its own
        check_device(op, p.name.c_str(), t, device_, "the first parameter");
        const auto i = static_cast<int64_t>(slots_.size());
        slots_.push_back({.parameter = p,
                          .exp_avg = Tensor::zeros(t.shape(), t.dtype(), device_),
                          .exp_avg_sq = Tensor::zeros(t.shape(), t.dtype(), device_),
                          .steps = steps_.rows(i, i + 1).alias({})});
    }
}

void AdamW::step(double learning_rate) {
    prepare(learning_rate);
    apply();
}

void AdamW::prepare(double learning_rate) {
    learning_rate_.fill(learning_rate);
}

void AdamW::apply(const Tensor& guard) {
    plan(guard)();
}

std::function<void()> AdamW::plan(const Tensor& guard) {
    if (slots_.empty()) return [] {};
    const double* pointer = guard_pointer(op, guard, {"the first parameter", slots_[0].parameter.tensor});
    return [of_float = plan_as<float>(pointer), of_double = plan_as<double>(pointer)] {
        of_float();
        of_double();
    };
}

// The parameters of dtype T that have a gradient.
template <class T>
std::function<void()> AdamW::plan_as(const double* guard) {
    std::vector<AdamWTensor<T>> tensors;
    for (const Slot& slot : slots_) {
        const Tensor &p = slot.parameter.tensor, grad = p.grad();
        if (!grad.defined() || p.dtype() != dtype_of<T>) continue;
        tensors.push_back({.parameter = p.data<T>(),
                           .grad = grad.data<T>(),
                           .exp_avg = slot.exp_avg.data<T>(),
                           .exp_avg_sq = slot.exp_avg_sq.data<T>(),
                           .steps = slot.steps.data<int64_t>(),
                           .count = p.numel()});
    }
    if (tensors.empty()) return [] {};
    return [tensors = std::move(tensors), device = device_, rate = learning_rate_.data<double>(), guard,
            config = config_] {
        launch(op, device, cpu::adamw_step<T>, cuda::adamw_step<T>,
               AdamWStep<T>{.tensors = tensors.data(),
                            .count = static_cast<int64_t>(tensors.size()),
                            .learning_rate = rate,
                            .guard = guard,
                            .beta1 = config.beta1,
                            .beta2 = config.beta2,
                            .eps = config.eps,
                            .weight_decay = config.weight_decay});
    };
}

NamedTensors AdamW::state() const {
    NamedTensors state;
    for (const Slot& slot : slots_) {
        state.push_back({slot.parameter.name + ".exp_avg", slot.exp_avg});
        state.push_back({slot.parameter.name + ".exp_avg_sq", slot.exp_avg_sq});
        state.push_back({slot.parameter.name + ".step", slot.steps});
    }
    return state;
}

void AdamW::load_state(const NamedTensors& state) {
    StateReader reader(state);
    load_state(reader);
    reader.expect_end();
}

void AdamW::load_state(StateReader& reader) {
    for (const Slot& slot : slots_) {
        const std::string& name = slot.parameter.name;
        slot.exp_avg.copy_from(reader.take(name + ".exp_avg", slot.exp_avg.shape(), slot.exp_avg.dtype()));
        slot.exp_avg_sq.copy_from(
            reader.take(name + ".exp_avg_sq", slot.exp_avg.shape(), slot.exp_avg.dtype()));
        slot.steps.copy_from(reader.take(name + ".step", {}, DType::int64));
    }
}

}  // namespace sieve
