#include "framework/ops/sum/sum.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/dispatch.h"
#include "framework/ops/sum/kernels.h"

namespace sieve {

Tensor sum(const Tensor& x) {
    constexpr const char* op = "sum";
    const Tensor y = Tensor::empty({}, x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::sum_forward<T>, cuda::sum_forward<T>,
               SumForward<T>{.x = x.data<T>(), .y = y.data<T>(), .count = x.numel()});
    });
    record(op, {x}, {y}, [shape = x.shape()](const std::vector<Tensor>& dy) {
        return std::vector<Tensor>{Tensor::full(shape, dy[0].item(), dy[0].dtype(), dy[0].device())};
    });
    return y;
}

}  // namespace sieve
