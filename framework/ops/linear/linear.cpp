#include "framework/ops/linear/linear.h"

#include "framework/autograd/autograd.h"
#include "framework/blas/gemm.h"
#include "framework/core/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "linear";

void check(const Tensor& x, const Tensor& weight) {
    check_rank(op, "weight", weight, 2);
    if (x.rank() == 0) fail(std::string(op) + ": x is a scalar, want at least 1 dim");
    if (x.dim(-1) != weight.dim(1))
        fail(std::string(op) + ": last dims differ: x " + to_string(x.shape()) + ", weight " +
             to_string(weight.shape()));
    check_operand(op, "weight", weight, {"x", x});
}

template <class T>
void forward_of(const Tensor& x, const Tensor& weight, const Tensor& y) {
    const int64_t rows = y.shape().drop_last().numel(), n = weight.dim(0), k = weight.dim(1);
    launch(op, x.device(), cpu::gemm<T>, cuda::gemm<T>,
           Gemm<T>{.transpose_b = true,
                   .m = rows,
                   .n = n,
                   .k = k,
                   .a = x.data<T>(),  // [rows,k]
                   .lda = k,
                   .b = weight.data<T>(),  // [n,k]
                   .ldb = k,
                   .c = y.data<T>(),  // [rows,n]
                   .ldc = n});
}

template <class T>
Tensor dx_of(const Tensor& dy, const Tensor& x, const Tensor& weight) {
    if (!x.requires_grad()) return {};
    const int64_t rows = dy.shape().drop_last().numel(), n = weight.dim(0), k = weight.dim(1);
    const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
    launch(op, x.device(), cpu::gemm<T>, cuda::gemm<T>,
           Gemm<T>{.m = rows,
                   .n = k,
                   .k = n,
                   .a = dy.data<T>(),  // [rows,n]
                   .lda = n,
                   .b = weight.data<T>(),  // [n,k]
                   .ldb = k,
                   .c = dx.data<T>(),  // [rows,k]
                   .ldc = k});
    return dx;
}

template <class T>
Tensor dweight_of(const Tensor& dy, const Tensor& x, const Tensor& weight) {
    if (!weight.requires_grad()) return {};
    const int64_t rows = dy.shape().drop_last().numel(), n = weight.dim(0), k = weight.dim(1);
    const Tensor dweight = Tensor::empty(weight.shape(), x.dtype(), x.device());
    launch(op, x.device(), cpu::gemm<T>, cuda::gemm<T>,
           Gemm<T>{.transpose_a = true,
                   .m = n,
                   .n = k,
                   .k = rows,
                   .a = dy.data<T>(),  // [rows,n]
                   .lda = n,
                   .b = x.data<T>(),  // [rows,k]
                   .ldb = k,
                   .c = dweight.data<T>(),  // [n,k]
                   .ldc = k});
    return dweight;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight) {
    check(x, weight);
    const Tensor y = Tensor::empty(x.shape().with_last(weight.dim(0)), x.dtype(), x.device());
    dispatch_float(op, x.dtype(), [&]<class T>() { forward_of<T>(x, weight, y); });
    record(op, {x, weight}, {y}, [x, weight](const std::vector<Tensor>& dy) {
        return dispatch_float(op, x.dtype(), [&]<class T>() {
            return std::vector<Tensor>{dx_of<T>(dy[0], x, weight), dweight_of<T>(dy[0], x, weight)};
        });
    });
    return y;
}

}  // namespace sieve
