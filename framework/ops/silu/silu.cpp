#include "framework/ops/silu/silu.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/silu/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "silu";
}

Tensor silu(const Tensor& x) {
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::silu_forward<T>, cuda::silu_forward<T>,
               SiluForward<T>{.x = x.data<T>(), .y = y.data<T>(), .count = x.numel()});
    });
    record(op, {x}, {y}, [x](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
        dispatch_float(op, x.dtype(), [&]<class T>() {
            launch(op, x.device(), cpu::silu_backward<T>, cuda::silu_backward<T>,
                   SiluBackward<T>{
                       .dy = dy[0].data<T>(), .x = x.data<T>(), .dx = dx.data<T>(), .count = x.numel()});
        });
        return {dx};
    });
    return y;
}

}  // namespace sieve
