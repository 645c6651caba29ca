#include "framework/ops/matmul/matmul.h"

#include "framework/autograd/autograd.h"
#include "framework/blas/gemm.h"
#include "framework/core/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "matmul";

void check(const Tensor& a, const Tensor& b) {
    check_rank(op, "a", a, 2);
    check_rank(op, "b", b, 2);
    if (a.dim(1) != b.dim(0))
        fail(std::string(op) + ": inner dimensions differ: " + to_string(a.shape()) + " x " +
             to_string(b.shape()));
    check_operand(op, "b", b, {"a", a});
}

struct Operand {
    const Tensor& tensor;  // of 2 dims
    bool transposed = false;
    int64_t rows() const { return tensor.dim(transposed ? 1 : 0); }
    int64_t columns() const { return tensor.dim(transposed ? 0 : 1); }
};

Tensor product(Operand a, Operand b) {
    const DType dtype = a.tensor.dtype();
    const Tensor c = Tensor::empty({a.rows(), b.columns()}, dtype, a.tensor.device());
    dispatch_float(op, dtype, [&]<class T>() {
        launch(op, c.device(), cpu::gemm<T>, cuda::gemm<T>,
               Gemm<T>{.transpose_a = a.transposed,
                       .transpose_b = b.transposed,
                       .m = a.rows(),
                       .n = b.columns(),
                       .k = a.columns(),
                       .a = a.tensor.data<T>(),
                       .lda = a.tensor.dim(1),
                       .b = b.tensor.data<T>(),
                       .ldb = b.tensor.dim(1),
                       .c = c.data<T>(),
                       .ldc = b.columns()});
    });
    return c;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
    check(a, b);
    const Tensor c = product({a}, {b});
    record(op, {a, b}, {c}, [a, b](const std::vector<Tensor>& dc) {
        return std::vector<Tensor>{a.requires_grad() ? product({dc[0]}, {b, true}) : Tensor(),
                                   b.requires_grad() ? product({a, true}, {dc[0]}) : Tensor()};
    });
    return c;
}

}  // namespace sieve
