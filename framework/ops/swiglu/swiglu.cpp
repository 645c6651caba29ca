#include "framework/ops/swiglu/swiglu.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/swiglu/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "swiglu";

template <class T>
std::vector<Tensor> backward_of(const Tensor& dy, const Tensor& gate, const Tensor& up) {
    const auto wanted = [&](const Tensor& x) {
        return x.requires_grad() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
    };
    const Tensor dgate = wanted(gate), dup = wanted(up);
    launch(op, dy.device(), cpu::swiglu_backward<T>, cuda::swiglu_backward<T>,
           SwigluBackward<T>{.dy = dy.data<T>(),
                             .gate = gate.data<T>(),
                             .up = up.data<T>(),
                             .dgate = dgate.defined() ? dgate.data<T>() : nullptr,
                             .dup = dup.defined() ? dup.data<T>() : nullptr,
                             .count = dy.numel()});
    return {dgate, dup};
}

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
    check_same(op, "up", up, {"gate", gate});
    const Tensor y = Tensor::empty(gate.shape(), gate.dtype(), gate.device());
    dispatch_float(op, gate.dtype(), [&]<class T>() {
        launch(op, gate.device(), cpu::swiglu_forward<T>, cuda::swiglu_forward<T>,
               SwigluForward<T>{
                   .gate = gate.data<T>(), .up = up.data<T>(), .y = y.data<T>(), .count = gate.numel()});
    });
    record(op, {gate, up}, {y}, [gate, up](const std::vector<Tensor>& dy) {
        return dispatch_float(op, gate.dtype(), [&]<class T>() { return backward_of<T>(dy[0], gate, up); });
    });
    return y;
}

}  // namespace sieve
