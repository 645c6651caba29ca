#include "framework/ops/indexer_kl/indexer_kl.h"

#include "framework/attention/scores/indexer_tensors.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/attention/target/target_tensors.h"
#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/indexer_kl/kernels.h"

namespace sieve {
namespace {

struct Selected {
    const Selection* selection = nullptr;  // null: all keys
    SelectedWeights weights;
};

void check(const char* op, const IndexerOperands& indexer, const MainAttention& attention,
           const Selected& selected) {
    const auto& [selection, weights] = selected;
    check_indexer(op, indexer);
    const int64_t batch = indexer.q.dim(0), length = indexer.q.dim(1);
    check_target(op, attention, batch, length);
    check_operand(op, "q", attention.q, {"indexer q", indexer.q});
    if (selection) check_selection(op, *selection, {"q", attention.q}, length, length);
    if (!weights.sums.defined()) return;
    check_shape(op, "weights", weights.sums, selection->indices.shape());
    check_operand(op, "weights", weights.sums, {"indexer q", indexer.q});
}

template <class T>
T* data_or_null(const Tensor& t) {
    return t.defined() ? t.data<T>() : nullptr;
}

// Multiplies the saved gradients where they lie: this node was their only owner and is not run again.
template <class T>
std::vector<Tensor> backward_of(const char* op, const Tensor& dloss, const Tensor& dq, const Tensor& dk,
                                const Tensor& dw) {
    launch(op, dq.device(), cpu::indexer_kl_backward<T>, cuda::indexer_kl_backward<T>,
           IndexerKlBackward<T>{.dloss = dloss.data<T>(),
                                .dq = dq.data<T>(),
                                .dk = dk.data<T>(),
                                .dw = dw.data<T>(),
                                .nq = dq.numel(),
                                .nk = dk.numel(),
                                .nw = dw.numel()});
    return {dq, dk, dw};
}

Tensor loss_of(const char* op, const IndexerOperands& indexer, const MainAttention& attention,
               const Selected& selected) {
    check(op, indexer, attention, selected);
    const Selection* selection = selected.selection;
    const bool wanted = grad_enabled() &&
                        (indexer.q.requires_grad() || indexer.k.requires_grad() || indexer.w.requires_grad());
    const auto gradient_of = [&](const Tensor& x) {
        return wanted ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
    };
    const Tensor dq = gradient_of(indexer.q), dk = gradient_of(indexer.k), dw = gradient_of(indexer.w);
    const Tensor loss = Tensor::empty({}, indexer.q.dtype(), indexer.q.device());
    dispatch_float(op, indexer.q.dtype(), [&]<class T>() {
        launch(op, indexer.q.device(), cpu::indexer_kl_forward<T>, cuda::indexer_kl_forward<T>,
               IndexerKlForward<T>{.index_q = indexer.q.data<T>(),
                                   .index_k = indexer.k.data<T>(),
                                   .index_w = indexer.w.data<T>(),
                                   .index_scale = indexer.scale,
                                   .target = attention_target<T>(attention),
                                   .keys = selection ? selected_keys(*selection) : SelectedKeys{},
                                   .weight_sums = data_or_null<T>(selected.weights.sums),
                                   .weights_from = selected.weights.first_row,
                                   .loss = loss.data<T>(),
                                   .dq = data_or_null<T>(dq),
                                   .dk = data_or_null<T>(dk),
                                   .dw = data_or_null<T>(dw),
                                   .sizes = indexer_sizes(indexer.q)});
    });
    if (!wanted) return loss;
    record(op, {indexer.q, indexer.k, indexer.w}, {loss}, [op, dq, dk, dw](const std::vector<Tensor>& dloss) {
        return dispatch_float(op, dq.dtype(),
                              [&]<class T>() { return backward_of<T>(op, dloss[0], dq, dk, dw); });
    });
    return loss;
}

}  // namespace

Tensor indexer_kl_sparse(const IndexerOperands& indexer, const MainAttention& attention,
                         const Selection& selection, const SelectedWeights& weights) {
    return loss_of("indexer_kl_sparse", indexer, attention, {&selection, weights});
}

Tensor indexer_kl_dense(const IndexerOperands& indexer, const MainAttention& attention) {
    return loss_of("indexer_kl_dense", indexer, attention, {});
}

}  // namespace sieve
