#include "framework/ops/embedding/embedding.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/embedding/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "embedding";

void check_values(const Tensor& tokens, int64_t vocab) {
    const int32_t* t = tokens.data<int32_t>();
    for (int64_t i = 0; i < tokens.numel(); ++i)
        if (t[i] < 0 || t[i] >= vocab)
            fail(std::string(op) + ": token " + std::to_string(t[i]) + " at position " + std::to_string(i) +
                 " is outside the vocabulary of " + std::to_string(vocab));
}

void check(const Tensor& tokens, const Tensor& weight) {
    check_rank(op, "weight", weight, 2);
    check_operand(op, "tokens", tokens, {"weight", weight}, DType::int32);
    if (tokens.device().is_cpu()) check_values(tokens, weight.dim(0));
}

}  // namespace

Tensor embedding(const Tensor& tokens, const Tensor& weight) {
    check(tokens, weight);
    Shape shape = tokens.shape();
    shape.append(weight.dim(1));
    const Tensor y = Tensor::empty(shape, weight.dtype(), weight.device());
    dispatch_float(op, weight.dtype(), [&]<class T>() {
        launch(op, weight.device(), cpu::embedding_forward<T>, cuda::embedding_forward<T>,
               EmbeddingForward<T>{.tokens = tokens.data<int32_t>(),
                                   .weight = weight.data<T>(),
                                   .y = y.data<T>(),
                                   .count = tokens.numel(),
                                   .vocab = weight.dim(0),
                                   .width = weight.dim(1)});
    });
    record(op, {weight}, {y}, [tokens, weight](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        const Tensor dweight = Tensor::empty(weight.shape(), weight.dtype(), weight.device());
        dispatch_float(op, weight.dtype(), [&]<class T>() {
            launch(op, weight.device(), cpu::embedding_backward<T>, cuda::embedding_backward<T>,
                   EmbeddingBackward<T>{.tokens = tokens.data<int32_t>(),
                                        .dy = dy[0].data<T>(),
                                        .dweight = dweight.data<T>(),
                                        .count = tokens.numel(),
                                        .vocab = weight.dim(0),
                                        .width = weight.dim(1)});
        });
        return {dweight};
    });
    return y;
}

}  // namespace sieve
