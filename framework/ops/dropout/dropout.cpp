#include "framework/ops/dropout/dropout.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/dropout/kernels.h"

namespace sieve {
namespace {

void check_rate(const char* op, double p) {
    if (!(p >= 0 && p < 1)) fail(std::string(op) + ": p is " + std::to_string(p) + ", want 0 <= p < 1");
}

// Undefined tensors become null pointers.
struct Operands {
    Tensor source, x, residual;
};

Tensor apply(const char* op, DropoutForm form, const Operands& in, double p, RngKey key) {
    const Tensor& like = in.source.defined() ? in.source : in.x;
    const Tensor y = Tensor::empty(like.shape(), like.dtype(), like.device());
    dispatch_float(op, like.dtype(), [&]<class T>() {
        const auto pointer = [](const Tensor& t) { return t.defined() ? t.data<T>() : nullptr; };
        launch(op, like.device(), cpu::dropout_apply<T>, cuda::dropout_apply<T>,
               DropoutApply<T>{.source = pointer(in.source),
                               .x = pointer(in.x),
                               .residual = pointer(in.residual),
                               .y = y.data<T>(),
                               .count = like.numel(),
                               .key = key,
                               .threshold = static_cast<uint32_t>(std::ceil(p * (1 << 24))),
                               .scale = static_cast<T>(1 / (1 - p)),
                               .form = form});
    });
    return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, RngKey key) {
    constexpr const char* op = "dropout";
    check_rate(op, p);
    if (p == 0) return x;
    const Tensor y = apply(op, DropoutForm::plain, {.source = x}, p, key);
    record(op, {x}, {y}, [p, key](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        return {apply(op, DropoutForm::plain, {.source = dy[0]}, p, key)};
    });
    return y;
}

Tensor dropout_add(const Tensor& residual, const Tensor& x, double p, RngKey key) {
    constexpr const char* op = "dropout_add";
    check_rate(op, p);
    check_same(op, "x", x, {"the residual", residual});
    const Tensor y = apply(op, DropoutForm::plain, {.source = x, .residual = residual}, p, key);
    record(op, {residual, x}, {y}, [p, key](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        return {dy[0], p == 0 ? dy[0] : apply(op, DropoutForm::plain, {.source = dy[0]}, p, key)};
    });
    return y;
}

Tensor silu_dropout(const Tensor& x, double p, RngKey key) {
    constexpr const char* op = "silu_dropout";
    check_rate(op, p);
    const Tensor y = apply(op, DropoutForm::silu, {.x = x}, p, key);
    record(op, {x}, {y}, [x, p, key](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        return {apply(op, DropoutForm::silu_slope, {.source = dy[0], .x = x}, p, key)};
    });
    return y;
}

}  // namespace sieve
