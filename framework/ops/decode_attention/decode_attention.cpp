#include "framework/ops/decode_attention/decode_attention.h"

#include "framework/attention/gather/gather_kernels.h"
#include "framework/attention/gather/sparse_method.h"
#include "framework/attention/selection/check_selection.h"
#include "framework/attention/tiles/attention_tensors.h"
#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "decode_attention";

void check_cached(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length) {
    check_heads(op, q, k, v);
    check_shape(op, "q", q, Shape{q.dim(0), q.dim(1), 1, q.dim(3)}, "one token");
    check_shape(op, "k", k, Shape{q.dim(0), k.dim(1), k.dim(2), q.dim(3)},
                "to fit q " + to_string(q.shape()));
    check_shape(op, "v", v, Shape{q.dim(0), k.dim(1), k.dim(2), v.dim(3)},
                "to fit k " + to_string(k.shape()));
    if (length < 1 || length > k.dim(2))
        fail(std::string(op) + ": length is " + std::to_string(length) + ", want 1 to the capacity " +
             std::to_string(k.dim(2)));
    if (grad_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad()))
        fail(std::string(op) + ": has no gradient; call it under NoGrad");
}

AttentionSizes cached_sizes(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length) {
    AttentionSizes sizes = attention_sizes(q, k, v);
    sizes.length = length;
    sizes.first_query = length - 1;
    return sizes;
}

}  // namespace

AttentionOutput decode_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length,
                                 double scale, const Selection* selection) {
    check_cached(q, k, v, length);
    if (selection) check_selection(op, *selection, {"q", q}, 1, length);
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved = saved_attention(q, k, v, result, scale);
    const SelectedKeys keys = selection ? selected_keys(*selection) : SelectedKeys{};
    const int64_t tiled = tiled_rows(SparseMethod::automatic, q, k.dim(1), keys.slots, length);
    dispatch_float(op, q.dtype(), [&]<class T>() {
        auto arguments = attention_forward_arguments<T>(saved, keys, tiled);
        arguments.size = cached_sizes(q, k, v, length);
        launch_on_cpu(op, q.device(),
                      selection ? cpu::sparse_attention_forward<T> : cpu::dense_attention_forward<T>,
                      arguments);
    });
    return result;
}

}  // namespace sieve
