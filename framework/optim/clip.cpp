#include "framework/optim/clip.h"

#include "framework/core/dispatch.h"
#include "framework/optim/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "clip_gradients";

std::vector<Tensor> gradients_of(const NamedTensors& parameters) {
    std::vector<Tensor> grads;
    for (const NamedTensor& p : parameters) {
        const Tensor grad = p.tensor.grad();
        if (!grad.defined()) continue;
        grads.push_back(grad);
        check_operand(op, p.name.c_str(), grad, {"the first gradient", grads[0]});
    }
    return grads;
}

}  // namespace

Tensor clip_gradients(const NamedTensors& parameters, double max_norm) {
    const std::vector<Tensor> grads = gradients_of(parameters);
    const Device device = parameters.empty() ? Device{} : parameters[0].tensor.device();
    if (grads.empty()) return Tensor::zeros({}, DType::float64, device);
    const Tensor norm = Tensor::empty({}, DType::float64, device);
    dispatch_float(op, grads[0].dtype(), [&]<class T>() {
        std::vector<Gradient<T>> list;
        list.reserve(grads.size());
        for (const Tensor& grad : grads) list.push_back({.grad = grad.data<T>(), .count = grad.numel()});
        launch(op, device, cpu::clip_gradients<T>, cuda::clip_gradients<T>,
               ClipGradients<T>{.gradients = list.data(),
                                .count = static_cast<int64_t>(list.size()),
                                .max_norm = max_norm,
                                .norm = norm.data<double>()});
    });
    return norm;
}

}  // namespace sieve
