#include "framework/ops/dense_attention/dense_attention.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/dense_attention/checks.h"
#include "framework/ops/dense_attention/kernels.h"
#include "framework/ops/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "dense_attention";

template <class T>
std::vector<Tensor> backward_of(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                const AttentionOutput& saved, double scale) {
    const Tensor dq = Tensor::empty(q.shape(), q.dtype(), q.device());
    const Tensor dk = Tensor::empty(k.shape(), q.dtype(), q.device());
    const Tensor dv = Tensor::empty(v.shape(), q.dtype(), q.device());
    launch(op, q.device(), cpu::tiled_attention_backward<T>,
           AttentionBackward<T>{.dout = dout.data<T>(),
                                .q = q.data<T>(),
                                .k = k.data<T>(),
                                .v = v.data<T>(),
                                .out = saved.out.data<T>(),
                                .lse = saved.lse.data<T>(),
                                .dq = dq.data<T>(),
                                .dk = dk.data<T>(),
                                .dv = dv.data<T>(),
                                .scale = static_cast<T>(scale),
                                .size = attention_sizes(q, k, v),
                                .keys = {}});
    return {dq, dk, dv};
}

}  // namespace

AttentionOutput dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
    check_attention(op, q, k, v);
    const AttentionOutput result = empty_attention_output(q, v);
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::tiled_attention_forward<T>,
               AttentionForward<T>{.q = q.data<T>(),
                                   .k = k.data<T>(),
                                   .v = v.data<T>(),
                                   .out = result.out.data<T>(),
                                   .lse = result.lse.data<T>(),
                                   .scale = static_cast<T>(scale),
                                   .size = attention_sizes(q, k, v),
                                   .keys = {}});
    });
    const AttentionOutput saved{result.out.detach(), result.lse};
    record(op, {q, k, v}, {result.out}, [q, k, v, saved, scale](const std::vector<Tensor>& grads) {
        return dispatch_float(op, q.dtype(),
                              [&]<class T>() { return backward_of<T>(grads[0], q, k, v, saved, scale); });
    });
    return result;
}

}  // namespace sieve
