#include "framework/ops/sparse_attention/sparse_attention.h"

#include "framework/attention/gather/gather_kernels.h"
#include "framework/attention/gather/sparse_method.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/attention/selection/saved_selection.h"
#include "framework/attention/tiles/attention_tensors.h"
#include "framework/autograd/autograd.h"

namespace sieve {
namespace {

constexpr const char* op = "sparse_attention";

// For rows that are gathered; on the CPU, where computing them again would gather their keys again.
SelectedWeights empty_weights(const Tensor& q, const Selection& selection, int64_t tiled) {
    if (!q.device().is_cpu() || tiled >= q.dim(2)) return {};
    return {Tensor::empty(selection.indices.shape(), q.dtype()), tiled};
}

}  // namespace

AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale, SparseMethod method,
                                 SelectedWeights* weights) {
    check_attention(op, q, k, v);
    check_selection(op, selection, {"q", q}, q.dim(2), q.dim(2));
    const SelectedKeys keys = selected_keys(selection);
    const int64_t tiled = tiled_rows(method, q, k.dim(1), keys.slots, q.dim(2));
    if (weights) *weights = empty_weights(q, selection, tiled);
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved = saved_attention(q, k, v, result, scale);
    dispatch_float(op, q.dtype(), [&]<class T>() {
        AttentionForward<T> arguments = attention_forward_arguments<T>(saved, keys, tiled);
        if (weights && weights->sums.defined()) arguments.weight_sums = weights->sums.data<T>();
        launch(op, q.device(), cpu::sparse_attention_forward<T>, cuda::sparse_attention_forward<T>,
               arguments);
    });
    if (!grad_enabled() || !(q.requires_grad() || k.requires_grad() || v.requires_grad())) return result;
    const SavedSelection kept(selection);
    record(op, {q, k, v}, {result.out}, [saved, kept, tiled](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(op, cpu::sparse_attention_backward<T>,
                                          cuda::sparse_attention_backward<T>, dout[0], saved, kept.keys(),
                                          tiled);
        });
    });
    return result;
}

}  // namespace sieve
