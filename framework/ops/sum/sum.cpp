#include "framework/ops/sum/sum.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/sum/kernels.h"

namespace sieve {

namespace {
constexpr const char* op = "sum";
}

Tensor sum(const Tensor& x) {
    const Tensor y = Tensor::empty({}, x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::sum_forward<T>, cuda::sum_forward<T>,
               SumForward<T>{.x = x.data<T>(), .y = y.data<T>(), .count = x.numel()});
    });
    record(op, {x}, {y}, [shape = x.shape()](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        const Tensor dx = Tensor::empty(shape, dy[0].dtype(), dy[0].device());
        dispatch_float(op, dx.dtype(), [&]<class T>() {
            launch(op, dx.device(), cpu::sum_backward<T>, cuda::sum_backward<T>,
                   SumBackward<T>{.dy = dy[0].data<T>(), .dx = dx.data<T>(), .count = dx.numel()});
        });
        return {dx};
    });
    return y;
}

}  // namespace sieve
