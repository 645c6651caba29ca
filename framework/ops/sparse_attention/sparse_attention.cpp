#include "framework/ops/sparse_attention/sparse_attention.h"

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "framework/ops/dense_attention/arguments.h"
#include "framework/ops/sparse_attention/arguments.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "sparse_attention";

// For rows that are gathered; on the CPU, where computing them again would gather their keys again.
SelectedWeights empty_weights(const Tensor& q, const Selection& selection, const SelectedKeys& keys) {
    if (!q.device().is_cpu() || keys.tiled_rows >= q.dim(2)) return {};
    return {Tensor::empty(selection.indices.shape(), q.dtype()), keys.tiled_rows};
}

// A selection as the backward keeps it: on the CPU in 16 bits where they hold every key, since the selections
// of all layers wait there for their backwards.
class SavedSelection {
  public:
    SavedSelection(const Selection& selection, bool cpu)
        : indices_(selection.indices),
          counts_(selection.counts),
          short_(cpu && selection.indices.dim(1) <= int64_t{1} << 16) {
        if (!short_) return;
        indices_ = Tensor::empty(Shape{selection.indices.numel(), 2}, DType::uint8);
        const int32_t* from = selection.indices.data<int32_t>();
        uint16_t* to = short_indices();
        parallel_for(selection.indices.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) to[i] = static_cast<uint16_t>(from[i]);
        });
    }

    // `keys` as they were for the forward, with what was kept in place of the indices.
    SelectedKeys restore(SelectedKeys keys) const {
        keys.indices = short_ ? nullptr : indices_.data<int32_t>();
        keys.short_indices = short_ ? short_indices() : nullptr;
        keys.counts = counts_.data<int32_t>();
        return keys;
    }

  private:
    uint16_t* short_indices() const { return reinterpret_cast<uint16_t*>(indices_.data<uint8_t>()); }

    Tensor indices_, counts_;
    bool short_;
};

}  // namespace

AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale, SparseMethod method,
                                 SelectedWeights* weights) {
    check_attention(op, q, k, v);
    check_selected(op, selection, q, k, q.dim(2));
    const SelectedKeys keys = selected_keys(selection, method, q, k, q.dim(2));
    if (weights) *weights = empty_weights(q, selection, keys);
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved{q, k, v, result.out.detach(), result.lse, scale};
    dispatch_float(op, q.dtype(), [&]<class T>() {
        AttentionForward<T> arguments = attention_forward_arguments<T>(saved, keys);
        if (weights && weights->sums.defined()) arguments.weight_sums = weights->sums.data<T>();
        launch(op, q.device(), cpu::sparse_attention_forward<T>, cuda::sparse_attention_forward<T>,
               arguments);
    });
    if (!grad_enabled() || !(q.requires_grad() || k.requires_grad() || v.requires_grad())) return result;
    const SavedSelection kept(selection, q.device().is_cpu());
    record(op, {q, k, v}, {result.out}, [saved, kept, keys](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(op, cpu::sparse_attention_backward<T>,
                                          cuda::sparse_attention_backward<T>, dout[0], saved,
                                          kept.restore(keys));
        });
    });
    return result;
}

}  // namespace sieve
