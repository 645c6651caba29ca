#include "framework/ops/sparse_attention/sparse_attention.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/dense_attention/arguments.h"
#include "framework/ops/sparse_attention/arguments.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "sparse_attention";
}

AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale, SparseMethod method) {
    check_attention(op, q, k, v);
    check_selected(op, selection, q, k, q.dim(2));
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved{q, k, v, result.out.detach(), result.lse, scale};
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::sparse_attention_forward<T>, cuda::sparse_attention_forward<T>,
               attention_forward_arguments<T>(saved, selected_keys(selection, method, q, k, q.dim(2))));
    });
    record(op, {q, k, v}, {result.out}, [saved, selection, method](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(op, cpu::sparse_attention_backward<T>,
                                          cuda::sparse_attention_backward<T>, dout[0], saved,
                                          selected_keys(selection, method, saved.q, saved.k, saved.q.dim(2)));
        });
    });
    return result;
}

}  // namespace sieve
