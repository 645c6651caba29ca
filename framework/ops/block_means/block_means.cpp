#include "framework/ops/block_means/block_means.h"

#include "framework/core/dispatch.h"
#include "framework/ops/block_means/kernels.h"

namespace sieve {

Tensor block_means(const Tensor& x, int64_t block) {
    constexpr const char* op = "block_means";
    check_rank(op, "x", x, 3);
    if (block < 1) fail(std::string(op) + ": block is " + std::to_string(block) + ", want at least 1");
    const Tensor y = Tensor::empty({x.dim(0), x.dim(1) / block, x.dim(2)}, x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() {
        launch(op, x.device(), cpu::block_means<T>, cuda::block_means<T>,
               BlockMeans<T>{.x = x.data<T>(),
                             .y = y.data<T>(),
                             .count = x.dim(0),
                             .length = x.dim(1),
                             .width = x.dim(2),
                             .block = block});
    });
    return y;
}

}  // namespace sieve
