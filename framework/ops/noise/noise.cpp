#include "framework/ops/noise/noise.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/noise/kernels.h"

namespace sieve {
namespace {
constexpr const char* op = "add_normal_noise";
}

Tensor add_normal_noise(const Tensor& x, double std, RngKey key) {
    if (!(std >= 0)) fail(std::string(op) + ": std is " + std::to_string(std) + ", want at least 0");
    if (std == 0) return x;
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(
            op, x.device(), cpu::noise_forward<T>, cuda::noise_forward<T>,
            NoiseForward<T>{.x = x.data<T>(), .y = y.data<T>(), .count = x.numel(), .std = std, .key = key});
    });
    record(op, {x}, {y}, [](const std::vector<Tensor>& dy) -> std::vector<Tensor> { return {dy[0]}; });
    return y;
}

}  // namespace sieve
