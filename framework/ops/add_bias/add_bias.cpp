#include "framework/ops/add_bias/add_bias.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/add_bias/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "add_bias";

void check(const Tensor& x, const Tensor& bias) {
    if (x.rank() == 0 || x.dim(-1) == 0)
        fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want a last dim of at least 1");
    check_shape(op, "bias", bias, Shape{x.dim(-1)}, "the last dim of x " + to_string(x.shape()));
    check_operand(op, "bias", bias, {"x", x});
}

Tensor sum_of_rows(const Tensor& dy, int64_t width) {
    const Tensor sums = Tensor::empty({width}, dy.dtype(), dy.device());
    dispatch_float(op, dy.dtype(), [&]<class T>() {
        launch(op, dy.device(), cpu::add_bias_backward<T>, cuda::add_bias_backward<T>,
               AddBiasBackward<T>{
                   .dy = dy.data<T>(), .dbias = sums.data<T>(), .rows = dy.numel() / width, .width = width});
    });
    return sums;
}

}  // namespace

Tensor add_bias(const Tensor& x, const Tensor& bias) {
    check(x, bias);
    const int64_t width = x.dim(-1);
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::add_bias_forward<T>, cuda::add_bias_forward<T>,
               AddBiasForward<T>{.x = x.data<T>(),
                                 .bias = bias.data<T>(),
                                 .y = y.data<T>(),
                                 .rows = x.numel() / width,
                                 .width = width});
    });
    record(op, {x, bias}, {y},
           [width, of_bias = bias.requires_grad()](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
               return {dy[0], of_bias ? sum_of_rows(dy[0], width) : Tensor()};
           });
    return y;
}

}  // namespace sieve
