#include "framework/ops/cross_entropy/cross_entropy.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/cross_entropy/kernels.h"
#include "framework/ops/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "cross_entropy";

void check(const Tensor& logits, const Tensor& targets) {
    check_rank(op, "logits", logits, 2);
    check_dtype(op, "targets", targets, DType::int32);
    check_shape(op, "targets", targets, Shape{logits.dim(0)},
                "the rows of logits " + to_string(logits.shape()));
    if (logits.numel() == 0)
        fail(std::string(op) + ": logits are " + to_string(logits.shape()) +
             ", want at least one row and one class");
    const int32_t* t = targets.data<int32_t>();
    for (int64_t i = 0; i < targets.numel(); ++i)
        if (t[i] < 0 || t[i] >= logits.dim(1))
            fail(std::string(op) + ": target " + std::to_string(t[i]) + " at row " + std::to_string(i) +
                 " is outside the " + std::to_string(logits.dim(1)) + " classes");
}

struct Forward {
    Tensor lse, losses, best;
};

Forward run_forward(const Tensor& logits, const Tensor& targets, bool want_best) {
    check(logits, targets);
    const Shape rows{logits.dim(0)};
    Forward f{Tensor::empty(rows, logits.dtype(), logits.device()),
              Tensor::empty(rows, logits.dtype(), logits.device()),
              want_best ? Tensor::empty(rows, DType::int32, logits.device()) : Tensor()};
    dispatch_float(op, logits.dtype(), [&]<class T>() {
        launch(op, logits.device(), cpu::cross_entropy_forward<T>, cuda::cross_entropy_forward<T>,
               CrossEntropyForward<T>{.logits = logits.data<T>(),
                                      .targets = targets.data<int32_t>(),
                                      .lse = f.lse.data<T>(),
                                      .losses = f.losses.data<T>(),
                                      .best = want_best ? f.best.data<int32_t>() : nullptr,
                                      .rows = logits.dim(0),
                                      .vocab = logits.dim(1)});
    });
    return f;
}

// In float64 and in order: one sum for a million tokens must not lose digits.
double sum_of(const Tensor& losses) {
    return dispatch_float(op, losses.dtype(), [&]<class T>() {
        double sum = 0;
        for (int64_t i = 0; i < losses.numel(); ++i) sum += static_cast<double>(losses.data<T>()[i]);
        return sum;
    });
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
    const Forward f = run_forward(logits, targets, false);
    const Tensor loss = Tensor::full({}, sum_of(f.losses) / static_cast<double>(logits.dim(0)),
                                     logits.dtype(), logits.device());
    record(op, {logits}, {loss},
           [logits, targets, lse = f.lse](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
               const Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
               dispatch_float(op, logits.dtype(), [&]<class T>() {
                   launch(op, logits.device(), cpu::cross_entropy_backward<T>,
                          cuda::cross_entropy_backward<T>,
                          CrossEntropyBackward<T>{
                              .logits = logits.data<T>(),
                              .targets = targets.data<int32_t>(),
                              .lse = lse.data<T>(),
                              .dlogits = dlogits.data<T>(),
                              .factor = static_cast<T>(dy[0].item() / static_cast<double>(logits.dim(0))),
                              .rows = logits.dim(0),
                              .vocab = logits.dim(1)});
               });
               return {dlogits};
           });
    return loss;
}

TokenPredictions score_predictions(const Tensor& logits, const Tensor& targets) {
    const Forward f = run_forward(logits, targets, true);
    TokenPredictions result{.total_loss = sum_of(f.losses)};
    for (int64_t i = 0; i < targets.numel(); ++i)
        result.correct += f.best.data<int32_t>()[i] == targets.data<int32_t>()[i];
    return result;
}

}  // namespace sieve
