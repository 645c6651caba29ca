#include "framework/ops/top_k/top_k.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/ops/top_k/kernels.h"

namespace sieve {

Selection top_k_select(const Tensor& scores, int64_t top_k) {
    constexpr const char* op = "top_k_select";
    check_rank(op, "scores", scores, 3);
    const int64_t batch = scores.dim(0), length = scores.dim(1);
    check_shape(op, "scores", scores, Shape{batch, length, length}, "as many keys as queries");
    const Selection selection = empty_selection(op, batch, length, length, top_k, scores.device());
    int64_t bad_row = -1;
    dispatch_float(op, scores.dtype(), [&]<class T>() {
        launch(op, scores.device(), cpu::top_k_select<T>, cuda::top_k_select<T>,
               TopKSelect<T>{.scores = scores.data<T>(),
                             .indices = selection.indices.data<int32_t>(),
                             .counts = selection.counts.data<int32_t>(),
                             .bad_row = &bad_row,
                             .batch = batch,
                             .length = length,
                             .slots = selection.indices.dim(2)});
    });
    check_no_nan(op, bad_row, length);
    return selection;
}

}  // namespace sieve
