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

// The gradients that the forward computes together with the loss; undefined when nobody asks for them.
struct Gradients {
    explicit Gradients(const IndexerOperands& indexer) {
        if (!grad_enabled() ||
            !(indexer.q.requires_grad() || indexer.k.requires_grad() || indexer.w.requires_grad()))
            return;
        dq = Tensor::empty(indexer.q.shape(), indexer.q.dtype(), indexer.q.device());
        dk = Tensor::empty(indexer.k.shape(), indexer.k.dtype(), indexer.k.device());
        dw = Tensor::empty(indexer.w.shape(), indexer.w.dtype(), indexer.w.device());
    }
    Tensor dq, dk, dw;
};

// Multiplies the saved gradients where they lie: this node was their only owner and is not run again.
template <class T>
std::vector<Tensor> backward_of(const char* op, const Tensor& dloss, const Gradients& gradients) {
    const Tensor &dq = gradients.dq, &dk = gradients.dk, &dw = gradients.dw;
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

void record_gradients(const char* op, const IndexerOperands& indexer, const Tensor& loss,
                      const Gradients& gradients) {
    if (!gradients.dq.defined()) return;
    record(op, {indexer.q, indexer.k, indexer.w}, {loss}, [op, gradients](const std::vector<Tensor>& dloss) {
        return dispatch_float(op, gradients.dq.dtype(),
                              [&]<class T>() { return backward_of<T>(op, dloss[0], gradients); });
    });
}

Tensor kl_loss(const char* op, const IndexerOperands& indexer, const MainAttention& attention,
               const Selected& selected) {
    check(op, indexer, attention, selected);
    const Selection* selection = selected.selection;
    const Gradients gradients(indexer);
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
                                   .dq = data_or_null<T>(gradients.dq),
                                   .dk = data_or_null<T>(gradients.dk),
                                   .dw = data_or_null<T>(gradients.dw),
                                   .sizes = indexer_sizes(indexer.q)});
    });
    record_gradients(op, indexer, loss, gradients);
    return loss;
}

}  // namespace

Tensor indexer_kl_sparse(const IndexerOperands& indexer, const MainAttention& attention,
                         const Selection& selection, const SelectedWeights& weights) {
    return kl_loss("indexer_kl_sparse", indexer, attention, {&selection, weights});
}

Tensor indexer_kl_dense(const IndexerOperands& indexer, const MainAttention& attention) {
    return kl_loss("indexer_kl_dense", indexer, attention, {});
}

Tensor indexer_negentropy(const IndexerOperands& indexer) {
    constexpr const char* op = "indexer_negentropy";
    check_indexer(op, indexer);
    const Gradients gradients(indexer);
    const Tensor loss = Tensor::empty({}, indexer.q.dtype(), indexer.q.device());
    dispatch_float(op, indexer.q.dtype(), [&]<class T>() {
        launch(op, indexer.q.device(), cpu::indexer_negentropy_forward<T>,
               cuda::indexer_negentropy_forward<T>,
               IndexerNegentropyForward<T>{.index_q = indexer.q.data<T>(),
                                           .index_k = indexer.k.data<T>(),
                                           .index_w = indexer.w.data<T>(),
                                           .index_scale = indexer.scale,
                                           .loss = loss.data<T>(),
                                           .dq = data_or_null<T>(gradients.dq),
                                           .dk = data_or_null<T>(gradients.dk),
                                           .dw = data_or_null<T>(gradients.dw),
                                           .sizes = indexer_sizes(indexer.q)});
    });
    record_gradients(op, indexer, loss, gradients);
    return loss;
}

}  // namespace sieve
