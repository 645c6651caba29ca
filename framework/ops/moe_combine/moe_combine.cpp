#include "framework/ops/moe_combine/moe_combine.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/moe_combine/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "moe_combine";

void check(const Tensor& y, const Tensor& weights, const DispatchPlan& plan) {
    check_rank(op, "y", y, 2);
    check_shape(op, "y", y, {plan.slots(), y.dim(1)}, "one row per slot of the plan");
    check_shape(op, "weights", weights, {plan.tokens, plan.top_k}, "the plan's tokens and choices");
    check_operand(op, "weights", weights, {"y", y});
    check_operand(op, "the plan's position", plan.position, {"y", y}, DType::int32);
    check_positions(op, plan);
}

template <class T>
std::vector<Tensor> backward_of(const Tensor& dout, const Tensor& y, const Tensor& weights,
                                const Tensor& position) {
    const Tensor dy = y.requires_grad() ? Tensor::empty(y.shape(), y.dtype(), y.device()) : Tensor();
    const Tensor dweights =
        weights.requires_grad() ? Tensor::empty(weights.shape(), y.dtype(), y.device()) : Tensor();
    launch(op, y.device(), cpu::moe_combine_backward<T>, cuda::moe_combine_backward<T>,
           MoeCombineBackward<T>{.dout = dout.data<T>(),
                                 .y = y.data<T>(),
                                 .weights = weights.data<T>(),
                                 .position = position.data<int32_t>(),
                                 .dy = dy.defined() ? dy.data<T>() : nullptr,
                                 .dweights = dweights.defined() ? dweights.data<T>() : nullptr,
                                 .tokens = weights.dim(0),
                                 .top_k = weights.dim(1),
                                 .width = y.dim(1)});
    return {dy, dweights};
}

}  // namespace

Tensor moe_combine(const Tensor& y, const Tensor& weights, const DispatchPlan& plan) {
    check(y, weights, plan);
    const Tensor out = Tensor::empty({plan.tokens, y.dim(1)}, y.dtype(), y.device());
    dispatch_float(op, y.dtype(), [&]<class T>() {
        launch(op, y.device(), cpu::moe_combine_forward<T>, cuda::moe_combine_forward<T>,
               MoeCombineForward<T>{.y = y.data<T>(),
                                    .weights = weights.data<T>(),
                                    .position = plan.position.data<int32_t>(),
                                    .out = out.data<T>(),
                                    .tokens = plan.tokens,
                                    .top_k = plan.top_k,
                                    .width = y.dim(1)});
    });
    record(op, {y, weights}, {out}, [y, weights, position = plan.position](const std::vector<Tensor>& dout) {
        return dispatch_float(op, y.dtype(),
                              [&]<class T>() { return backward_of<T>(dout[0], y, weights, position); });
    });
    return out;
}

}  // namespace sieve
