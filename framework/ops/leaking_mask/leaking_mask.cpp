#include "framework/ops/leaking_mask/leaking_mask.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/core/dispatch.h"
#include "framework/ops/leaking_mask/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "leaking_mask";
}

void leaking_mask(const Tensor& scores, const Selection& selection) {
    if (scores.rank() != 3 || scores.dim(2) == 0 || scores.dim(1) % scores.dim(2) != 0)
        fail(std::string(op) + ": scores are " + to_string(scores.shape()) +
             ", want [B, R*T, T] with T >= 1");
    const int64_t length = scores.dim(2);
    check_selection(op, selection, {"scores", scores}, length, length);
    dispatch_float(op, scores.dtype(), [&]<class T>() {
        launch(op, scores.device(), cpu::leaking_mask<T>, cuda::leaking_mask<T>,
               LeakingMask<T>{.scores = scores.data<T>(),
                              .keys = selected_keys(selection),
                              .rows = scores.dim(0) * scores.dim(1),
                              .rows_of_batch = scores.dim(1),
                              .length = length});
    });
}

}  // namespace sieve
