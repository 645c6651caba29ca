#include "framework/ops/add/add.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/add/kernels.h"

namespace sieve {

Tensor add(const Tensor& a, const Tensor& b) {
    constexpr const char* op = "add";
    check_same(op, "b", b, {"a", a});
    const Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
    dispatch_float(op, a.dtype(), [&]<class T>() {
        launch(op, a.device(), cpu::add_forward<T>, cuda::add_forward<T>,
               AddForward<T>{.a = a.data<T>(), .b = b.data<T>(), .y = y.data<T>(), .count = a.numel()});
    });
    record(op, {a, b}, {y}, [](const std::vector<Tensor>& dy) { return std::vector<Tensor>{dy[0], dy[0]}; });
    return y;
}

}  // namespace sieve
