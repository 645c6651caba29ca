#include "framework/ops/reshape/reshape.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"

namespace sieve {

Tensor reshape(const Tensor& x, const Shape& shape) {
    constexpr const char* op = "reshape";
    if (x.numel() != shape.numel())
        fail(std::string(op) + ": " + to_string(x.shape()) + " has " + std::to_string(x.numel()) +
             " elements, " + to_string(shape) + " has " + std::to_string(shape.numel()));
    const Tensor y = x.alias(shape);
    record(op, {x}, {y}, [before = x.shape()](const std::vector<Tensor>& dy) {
        return std::vector<Tensor>{dy[0].alias(before)};
    });
    return y;
}

}  // namespace sieve
