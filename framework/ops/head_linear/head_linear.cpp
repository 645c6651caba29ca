#include "framework/ops/head_linear/head_linear.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/head_linear/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "head_linear";

HeadLinearSizes checked_sizes(const Tensor& x, const Tensor& weight, HeadRows rows, bool transposed) {
    check_rank(op, "x", x, 4);
    check_rank(op, "weight", weight, 2);
    check_operand(op, "weight", weight, {"x", x});
    const int64_t heads = x.dim(2);
    if (heads == 0 || weight.dim(0) % heads != 0)
        fail(std::string(op) + ": weight is " + to_string(weight.shape()) + ", want a multiple of " +
             std::to_string(heads) + " rows, one block for each head of x " + to_string(x.shape()));
    const HeadLinearSizes size{.tokens = x.dim(0) * x.dim(1),
                               .heads = heads,
                               .block = weight.dim(0) / heads,
                               .first = rows.first,
                               .count = rows.count,
                               .columns = weight.dim(1)};
    if (rows.first < 0 || rows.count < 0 || rows.first + rows.count > size.block)
        fail(std::string(op) + ": rows " + std::to_string(rows.first) + " to " +
             std::to_string(rows.first + rows.count) + " of a head's " + std::to_string(size.block));
    check_shape(op, "x", x, x.shape().with_last(transposed ? size.count : size.columns),
                transposed ? "as many as rows are read" : "the columns of weight");
    return size;
}

template <class T>
Tensor product(const Tensor& x, const Tensor& weight, const HeadLinearSizes& size, bool transposed) {
    const Tensor y =
        Tensor::empty(x.shape().with_last(transposed ? size.columns : size.count), x.dtype(), x.device());
    launch(op, x.device(), cpu::head_linear<T>, cuda::head_linear<T>,
           HeadLinear<T>{.x = x.data<T>(),
                         .weight = weight.data<T>(),
                         .y = y.data<T>(),
                         .transposed = transposed,
                         .size = size});
    return y;
}

template <class T>
Tensor dweight_of(const Tensor& narrow, const Tensor& wide, const Tensor& weight,
                  const HeadLinearSizes& size) {
    const Tensor dweight = Tensor::empty(weight.shape(), weight.dtype(), weight.device());
    launch(
        op, weight.device(), cpu::head_linear_weight_gradient<T>, cuda::head_linear_weight_gradient<T>,
        HeadLinearWeightGradient<T>{
            .narrow = narrow.data<T>(), .wide = wide.data<T>(), .dweight = dweight.data<T>(), .size = size});
    return dweight;
}

Tensor apply(const Tensor& x, const Tensor& weight, HeadRows rows, bool transposed) {
    const HeadLinearSizes size = checked_sizes(x, weight, rows, transposed);
    const Tensor y =
        dispatch_float(op, x.dtype(), [&]<class T>() { return product<T>(x, weight, size, transposed); });
    record(op, {x, weight}, {y}, [x, weight, size, transposed](const std::vector<Tensor>& dy) {
        return dispatch_float(op, x.dtype(), [&]<class T>() -> std::vector<Tensor> {
            return {x.requires_grad() ? product<T>(dy[0], weight, size, !transposed) : Tensor(),
                    !weight.requires_grad() ? Tensor()
                    : transposed            ? dweight_of<T>(x, dy[0], weight, size)
                                            : dweight_of<T>(dy[0], x, weight, size)};
        });
    });
    return y;
}

}  // namespace

Tensor head_linear(const Tensor& x, const Tensor& weight, HeadRows rows) {
    return apply(x, weight, rows, false);
}

Tensor head_linear_transposed(const Tensor& x, const Tensor& weight, HeadRows rows) {
    return apply(x, weight, rows, true);
}

}  // namespace sieve
