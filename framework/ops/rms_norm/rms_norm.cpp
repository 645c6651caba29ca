#include "framework/ops/rms_norm/rms_norm.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/rms_norm/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "rms_norm";

void check(const Tensor& x, const Tensor& weight) {
    if (x.rank() == 0 || x.dim(-1) == 0)
        fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want a last dim of at least 1");
    check_shape(op, "weight", weight, Shape{x.dim(-1)}, "the last dim of x " + to_string(x.shape()));
    check_operand(op, "weight", weight, {"x", x});
}

template <class T>
std::vector<Tensor> backward_of(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd) {
    const Tensor dx = x.requires_grad() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
    const Tensor dweight =
        weight.requires_grad() ? Tensor::empty(weight.shape(), x.dtype(), x.device()) : Tensor();
    launch(op, x.device(), cpu::rms_norm_backward<T>, cuda::rms_norm_backward<T>,
           RmsNormBackward<T>{.dy = dy.data<T>(),
                              .x = x.data<T>(),
                              .weight = weight.data<T>(),
                              .rstd = rstd.data<T>(),
                              .dx = dx.defined() ? dx.data<T>() : nullptr,
                              .dweight = dweight.defined() ? dweight.data<T>() : nullptr,
                              .rows = rstd.numel(),
                              .width = weight.numel()});
    return {dx, dweight};
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
    check(x, weight);
    const int64_t width = x.dim(-1);
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    const Tensor rstd = Tensor::empty(x.shape().drop_last(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::rms_norm_forward<T>, cuda::rms_norm_forward<T>,
               RmsNormForward<T>{.x = x.data<T>(),
                                 .weight = weight.data<T>(),
                                 .y = y.data<T>(),
                                 .rstd = rstd.data<T>(),
                                 .rows = rstd.numel(),
                                 .width = width,
                                 .eps = eps});
    });
    record(op, {x, weight}, {y}, [x, weight, rstd](const std::vector<Tensor>& dy) {
        return dispatch_float(op, x.dtype(),
                              [&]<class T>() { return backward_of<T>(dy[0], x, weight, rstd); });
    });
    return y;
}

}  // namespace sieve
