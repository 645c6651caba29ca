#include "framework/ops/grouped_linear/grouped_linear.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/grouped_linear/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "grouped_linear";

void check(const Tensor& x, const DispatchPlan& plan, const std::vector<Tensor>& weights) {
    check_rank(op, "x", x, 2);
    check_shape(op, "x", x, {plan.slots(), x.dim(1)}, "one row per slot of the plan");
    check_operand(op, "the plan's offsets", plan.offsets, {"x", x}, DType::int64);
    check_offsets(op, plan);
    if (weights.empty() || static_cast<int64_t>(weights.size()) != plan.num_experts())
        fail(std::string(op) + ": " + std::to_string(weights.size()) + " weights for a plan of " +
             std::to_string(plan.num_experts()) + " experts");
    check_rank(op, "weight 0", weights[0], 2);
    for (size_t e = 0; e < weights.size(); ++e) {
        const std::string what = "weight " + std::to_string(e);
        check_shape(op, what.c_str(), weights[e], {weights[0].dim(0), x.dim(1)},
                    "for x " + to_string(x.shape()));
        check_operand(op, what.c_str(), weights[e], {"x", x});
    }
}

template <class T>
std::vector<T*> pointers(const std::vector<Tensor>& tensors) {
    std::vector<T*> result;
    result.reserve(tensors.size());
    for (const Tensor& t : tensors) result.push_back(t.defined() ? t.data<T>() : nullptr);
    return result;
}

template <class T>
void forward_of(const Tensor& x, const DispatchPlan& plan, const std::vector<Tensor>& weights,
                const Tensor& y) {
    launch(op, x.device(), cpu::grouped_linear_forward<T>, cuda::grouped_linear_forward<T>,
           GroupedLinearForward<T>{.x = x.data<T>(),
                                   .weights = pointers<T>(weights).data(),
                                   .y = y.data<T>(),
                                   .offsets = plan.offsets.data<int64_t>(),
                                   .rows = x.dim(0),
                                   .experts = plan.num_experts(),
                                   .in = x.dim(1),
                                   .out = y.dim(1)});
}

template <class T>
std::vector<Tensor> backward_of(const Tensor& dy, const Tensor& x, const Tensor& offsets,
                                const std::vector<Tensor>& weights) {
    std::vector<Tensor> dweights;
    dweights.reserve(weights.size());
    for (const Tensor& w : weights)
        dweights.push_back(w.requires_grad() ? Tensor::empty(w.shape(), w.dtype(), w.device()) : Tensor());
    const Tensor dx = x.requires_grad() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
    launch(op, x.device(), cpu::grouped_linear_backward<T>, cuda::grouped_linear_backward<T>,
           GroupedLinearBackward<T>{.dy = dy.data<T>(),
                                    .x = x.data<T>(),
                                    .weights = pointers<T>(weights).data(),
                                    .dx = dx.defined() ? dx.data<T>() : nullptr,
                                    .dweights = pointers<T>(dweights).data(),
                                    .offsets = offsets.data<int64_t>(),
                                    .rows = x.dim(0),
                                    .experts = static_cast<int64_t>(weights.size()),
                                    .in = x.dim(1),
                                    .out = dy.dim(1)});
    std::vector<Tensor> grads{dx};
    grads.insert(grads.end(), dweights.begin(), dweights.end());
    return grads;
}

}  // namespace

Tensor grouped_linear(const Tensor& x, const DispatchPlan& plan, const std::vector<Tensor>& weights) {
    check(x, plan, weights);
    const Tensor y = Tensor::empty({x.dim(0), weights[0].dim(0)}, x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() { forward_of<T>(x, plan, weights, y); });
    std::vector<Tensor> inputs{x};
    inputs.insert(inputs.end(), weights.begin(), weights.end());
    record(op, inputs, {y}, [x, weights, offsets = plan.offsets](const std::vector<Tensor>& dy) {
        return dispatch_float(op, x.dtype(),
                              [&]<class T>() { return backward_of<T>(dy[0], x, offsets, weights); });
    });
    return y;
}

}  // namespace sieve
