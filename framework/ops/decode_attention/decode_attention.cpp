#include "framework/ops/decode_attention/decode_attention.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/dense_attention/kernels.h"
#include "framework/ops/dispatch.h"
#include "framework/ops/sparse_attention/arguments.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "decode_attention";

void check_cached(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length) {
    check_rank(op, "q", q, 4);
    check_rank(op, "k", k, 4);
    check_rank(op, "v", v, 4);
    check_dtype(op, "k", k, q.dtype());
    check_dtype(op, "v", v, q.dtype());
    check_shape(op, "q", q, Shape{q.dim(0), q.dim(1), 1, q.dim(3)}, "one token");
    check_shape(op, "k", k, Shape{q.dim(0), k.dim(1), k.dim(2), q.dim(3)},
                "to fit q " + to_string(q.shape()));
    check_shape(op, "v", v, Shape{q.dim(0), k.dim(1), k.dim(2), v.dim(3)},
                "to fit k " + to_string(k.shape()));
    if (q.dim(3) == 0 || v.dim(3) == 0)
        fail(std::string(op) + ": the heads of q " + to_string(q.shape()) + " and v " + to_string(v.shape()) +
             " want a last dim of at least 1");
    if (k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
        fail(std::string(op) + ": q has " + std::to_string(q.dim(1)) + " heads, want a multiple of the " +
             std::to_string(k.dim(1)) + " of k");
    if (length < 1 || length > k.dim(2))
        fail(std::string(op) + ": length is " + std::to_string(length) + ", want 1 to the capacity " +
             std::to_string(k.dim(2)));
    if (grad_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad()))
        fail(std::string(op) + ": has no gradient; call it under NoGrad");
}

AttentionSizes cached_sizes(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length) {
    return {.batch = q.dim(0),
            .heads = q.dim(1),
            .kv_heads = k.dim(1),
            .length = length,
            .dim = q.dim(3),
            .value_dim = v.dim(3),
            .key_rows = k.dim(2),
            .first_query = length - 1};
}

}  // namespace

AttentionOutput decode_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t length,
                                 double scale, const Selection* selection) {
    check_cached(q, k, v, length);
    if (selection) check_selected(op, *selection, q, k, length);
    const AttentionOutput result{
        .out = Tensor::empty(Shape{q.dim(0), 1, q.dim(1) * v.dim(3)}, q.dtype(), q.device()),
        .lse = Tensor::empty(Shape{q.dim(0), q.dim(1), 1}, q.dtype(), q.device())};
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch_on_cpu(op, q.device(),
                      selection ? cpu::sparse_attention_forward<T> : cpu::dense_attention_forward<T>,
                      AttentionForward<T>{
                          .q = q.data<T>(),
                          .k = k.data<T>(),
                          .v = v.data<T>(),
                          .out = result.out.data<T>(),
                          .lse = result.lse.data<T>(),
                          .scale = static_cast<T>(scale),
                          .size = cached_sizes(q, k, v, length),
                          .keys = selection ? selected_keys(*selection, SparseMethod::automatic, q, k, length)
                                            : SelectedKeys{}});
    });
    return result;
}

}  // namespace sieve
