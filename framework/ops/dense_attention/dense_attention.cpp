#include "framework/ops/dense_attention/dense_attention.h"

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/attention/tiles/attention_tensors.h"
#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"

namespace sieve {
namespace {
constexpr const char* op = "dense_attention";
}

AttentionOutput dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
    check_attention(op, q, k, v);
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved = saved_attention(q, k, v, result, scale);
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::dense_attention_forward<T>, cuda::dense_attention_forward<T>,
               attention_forward_arguments<T>(saved, {}, 0));
    });
    record(op, {q, k, v}, {result.out}, [saved](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(op, cpu::dense_attention_backward<T>,
                                          cuda::dense_attention_backward<T>, dout[0], saved, {}, 0);
        });
    });
    return result;
}

}  // namespace sieve
