#include "framework/ops/cross_entropy/cross_entropy.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/cross_entropy/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "cross_entropy";

void check_values(const Tensor& targets, int64_t vocab) {
    const int32_t* t = targets.data<int32_t>();
    for (int64_t i = 0; i < targets.numel(); ++i)
        if (t[i] < 0 || t[i] >= vocab)
            fail(std::string(op) + ": target " + std::to_string(t[i]) + " at row " + std::to_string(i) +
                 " is outside the " + std::to_string(vocab) + " classes");
}

void check(const Tensor& logits, const Tensor& targets) {
    check_rank(op, "logits", logits, 2);
    check_operand(op, "targets", targets, {"logits", logits}, DType::int32);
    check_shape(op, "targets", targets, Shape{logits.dim(0)},
                "the rows of logits " + to_string(logits.shape()));
    if (logits.numel() == 0)
        fail(std::string(op) + ": logits are " + to_string(logits.shape()) +
             ", want at least one row and one class");
    if (targets.device().is_cpu()) check_values(targets, logits.dim(1));
}

Tensor one_per_row(const Tensor& logits, DType dtype) {
    return Tensor::empty({logits.dim(0)}, dtype, logits.device());
}

// What one forward is asked for; mean and score undefined: not wanted.
struct Results {
    Tensor mean = {}, score = {};
    Tensor losses;  // [N]
};

// What a backward needs of each row beside its logits.
struct RowSums {
    explicit RowSums(const Tensor& logits)
        : highest(one_per_row(logits, logits.dtype())), log_sum(one_per_row(logits, logits.dtype())) {}
    Tensor highest, log_sum;
};

void run_forward(const Tensor& logits, const Tensor& targets, const RowSums& sums, const Results& results) {
    const Tensor best = results.score.defined() ? one_per_row(logits, DType::int32) : Tensor();
    dispatch_float(op, logits.dtype(), [&]<class T>() {
        launch(
            op, logits.device(), cpu::cross_entropy_forward<T>, cuda::cross_entropy_forward<T>,
            CrossEntropyForward<T>{.logits = logits.data<T>(),
                                   .targets = targets.data<int32_t>(),
                                   .highest = sums.highest.data<T>(),
                                   .log_sum = sums.log_sum.data<T>(),
                                   .losses = results.losses.data<T>(),
                                   .mean = results.mean.defined() ? results.mean.data<T>() : nullptr,
                                   .best = best.defined() ? best.data<int32_t>() : nullptr,
                                   .score = results.score.defined() ? results.score.data<double>() : nullptr,
                                   .rows = logits.dim(0),
                                   .vocab = logits.dim(1)});
    });
}

Tensor run_backward(const Tensor& dloss, const Tensor& logits, const Tensor& targets, const RowSums& sums) {
    const Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
    dispatch_float(op, logits.dtype(), [&]<class T>() {
        launch(op, logits.device(), cpu::cross_entropy_backward<T>, cuda::cross_entropy_backward<T>,
               CrossEntropyBackward<T>{.dloss = dloss.data<T>(),
                                       .logits = logits.data<T>(),
                                       .targets = targets.data<int32_t>(),
                                       .highest = sums.highest.data<T>(),
                                       .log_sum = sums.log_sum.data<T>(),
                                       .dlogits = dlogits.data<T>(),
                                       .rows = logits.dim(0),
                                       .vocab = logits.dim(1)});
    });
    return dlogits;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
    check(logits, targets);
    const RowSums sums(logits);
    const Tensor loss = Tensor::empty({}, logits.dtype(), logits.device());
    run_forward(logits, targets, sums, {.mean = loss, .losses = one_per_row(logits, logits.dtype())});
    record(op, {logits}, {loss}, [logits, targets, sums](const std::vector<Tensor>& dy) {
        return std::vector<Tensor>{run_backward(dy[0], logits, targets, sums)};
    });
    return loss;
}

TokenPredictions score_predictions(const Tensor& logits, const Tensor& targets) {
    check(logits, targets);
    const Tensor score = Tensor::empty({2}, DType::float64, logits.device());
    const Tensor losses = one_per_row(logits, logits.dtype());
    run_forward(logits, targets, RowSums(logits), {.score = score, .losses = losses});
    const std::vector<double> values = score.to_vector<double>();
    return {.total_loss = values[0], .correct = static_cast<int64_t>(values[1]), .losses = losses};
}

}  // namespace sieve
