#include "framework/ops/layer_norm/layer_norm.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/layer_norm/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "layer_norm";

void check(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    if (x.rank() == 0 || x.dim(-1) == 0)
        fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want a last dim of at least 1");
    const std::string why = "the last dim of x " + to_string(x.shape());
    check_shape(op, "weight", weight, Shape{x.dim(-1)}, why);
    check_shape(op, "bias", bias, Shape{x.dim(-1)}, why);
    check_operand(op, "weight", weight, {"x", x});
    check_operand(op, "bias", bias, {"x", x});
}

struct Saved {
    Tensor x, weight, mean, rstd;
};

template <class T>
std::vector<Tensor> backward_of(const Tensor& dy, const Saved& s) {
    const Tensor dx = s.x.requires_grad() ? Tensor::empty(s.x.shape(), s.x.dtype(), s.x.device()) : Tensor();
    const Tensor dweight = Tensor::empty(s.weight.shape(), s.x.dtype(), s.x.device());
    const Tensor dbias = Tensor::empty(s.weight.shape(), s.x.dtype(), s.x.device());
    launch(op, s.x.device(), cpu::layer_norm_backward<T>, cuda::layer_norm_backward<T>,
           LayerNormBackward<T>{.dy = dy.data<T>(),
                                .x = s.x.data<T>(),
                                .weight = s.weight.data<T>(),
                                .mean = s.mean.data<T>(),
                                .rstd = s.rstd.data<T>(),
                                .dx = dx.defined() ? dx.data<T>() : nullptr,
                                .dweight = dweight.data<T>(),
                                .dbias = dbias.data<T>(),
                                .rows = s.rstd.numel(),
                                .width = s.weight.numel()});
    return {dx, dweight, dbias};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
    check(x, weight, bias);
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    const Tensor mean = Tensor::empty(x.shape().drop_last(), x.dtype(), x.device());
    const Tensor rstd = Tensor::empty(x.shape().drop_last(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::layer_norm_forward<T>, cuda::layer_norm_forward<T>,
               LayerNormForward<T>{.x = x.data<T>(),
                                   .weight = weight.data<T>(),
                                   .bias = bias.data<T>(),
                                   .y = y.data<T>(),
                                   .mean = mean.data<T>(),
                                   .rstd = rstd.data<T>(),
                                   .rows = rstd.numel(),
                                   .width = x.dim(-1),
                                   .eps = eps});
    });
    record(op, {x, weight, bias}, {y}, [saved = Saved{x, weight, mean, rstd}](const std::vector<Tensor>& dy) {
        return dispatch_float(op, saved.x.dtype(), [&]<class T>() { return backward_of<T>(dy[0], saved); });
    });
    return y;
}

}  // namespace sieve
