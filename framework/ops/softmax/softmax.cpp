#include "framework/ops/softmax/softmax.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/softmax/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "softmax";
}

Tensor softmax(const Tensor& x) {
    if (x.rank() == 0 || x.dim(-1) == 0)
        fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want a last dim of at least 1");
    const int64_t width = x.dim(-1), rows = x.numel() / width;
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::softmax_forward<T>, cuda::softmax_forward<T>,
               SoftmaxForward<T>{.x = x.data<T>(), .y = y.data<T>(), .rows = rows, .width = width});
    });
    record(op, {x}, {y},
           [saved = y.detach(), rows, width](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
               const Tensor dx = Tensor::empty(saved.shape(), saved.dtype(), saved.device());
               dispatch_float(op, saved.dtype(), [&]<class T>() {
                   launch(op, saved.device(), cpu::softmax_backward<T>, cuda::softmax_backward<T>,
                          SoftmaxBackward<T>{.dy = dy[0].data<T>(),
                                             .y = saved.data<T>(),
                                             .dx = dx.data<T>(),
                                             .rows = rows,
                                             .width = width});
               });
               return {dx};
           });
    return y;
}

}  // namespace sieve
