#include "framework/ops/causal_mask/causal_mask.h"

#include "framework/core/dispatch.h"
#include "framework/ops/causal_mask/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "mask_future";
}

void mask_future(const Tensor& scores) {
    if (scores.rank() < 2 || scores.dim(-1) == 0 || scores.dim(-2) % scores.dim(-1) != 0)
        fail(std::string(op) + ": scores are " + to_string(scores.shape()) +
             ", want [..., R*T, T] with T >= 1");
    dispatch_float(op, scores.dtype(), [&]<class T>() {
        launch(op, scores.device(), cpu::mask_future<T>, cuda::mask_future<T>,
               MaskFuture<T>{.scores = scores.data<T>(),
                             .rows = scores.numel() / scores.dim(-1),
                             .width = scores.dim(-1)});
    });
}

}  // namespace sieve
