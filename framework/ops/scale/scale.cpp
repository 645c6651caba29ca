#include "framework/ops/scale/scale.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/scale/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "scale";

Tensor scaled(const Tensor& x, double factor) {
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::scale_forward<T>, cuda::scale_forward<T>,
               ScaleForward<T>{.x = x.data<T>(), .y = y.data<T>(), .count = x.numel(), .factor = factor});
    });
    return y;
}

}  // namespace

Tensor scale(const Tensor& x, double factor) {
    const Tensor y = scaled(x, factor);
    record(op, {x}, {y},
           [factor](const std::vector<Tensor>& dy) { return std::vector<Tensor>{scaled(dy[0], factor)}; });
    return y;
}

}  // namespace sieve
