#include "framework/ops/batched_matmul/batched_matmul.h"

#include "framework/autograd/autograd.h"
#include "framework/blas/gemm.h"
#include "framework/core/dispatch.h"

namespace sieve {
namespace {

constexpr const char* op = "batched_matmul";

void check(const Tensor& a, const Tensor& b, bool transpose_b) {
    check_rank(op, "a", a, 3);
    check_rank(op, "b", b, 3);
    check_operand(op, "b", b, {"a", a});
    const Shape want =
        transpose_b ? Shape{a.dim(0), b.dim(1), a.dim(2)} : Shape{a.dim(0), a.dim(2), b.dim(2)};
    check_shape(op, "b", b, want, "to fit a " + to_string(a.shape()));
}

struct Operand {
    const Tensor& tensor;  // of 3 dims
    bool transposed = false;
    int64_t rows() const { return tensor.dim(transposed ? 2 : 1); }
    int64_t columns() const { return tensor.dim(transposed ? 1 : 2); }
    int64_t matrix() const { return tensor.dim(1) * tensor.dim(2); }
};

Tensor product(Operand a, Operand b, double alpha) {
    const DType dtype = a.tensor.dtype();
    const Tensor c = Tensor::empty({a.tensor.dim(0), a.rows(), b.columns()}, dtype, a.tensor.device());
    dispatch_float(op, dtype, [&]<class T>() {
        const Gemm<T> g{.transpose_a = a.transposed,
                        .transpose_b = b.transposed,
                        .m = a.rows(),
                        .n = b.columns(),
                        .k = a.columns(),
                        .alpha = static_cast<T>(alpha),
                        .a = a.tensor.data<T>(),
                        .lda = a.tensor.dim(2),
                        .b = b.tensor.data<T>(),
                        .ldb = b.tensor.dim(2),
                        .c = c.data<T>(),
                        .ldc = b.columns()};
        const GemmBatch batch{.count = a.tensor.dim(0),
                              .stride_a = a.matrix(),
                              .stride_b = b.matrix(),
                              .stride_c = a.rows() * b.columns()};
        if (c.device().is_cpu()) return cpu::gemm_batched<T>(g, batch);
        const cuda::OpScope scope(op);
        cuda::gemm_batched<T>(g, batch);
    });
    return c;
}

}  // namespace

Tensor batched_matmul(const Tensor& a, const Tensor& b, bool transpose_b, double alpha) {
    check(a, b, transpose_b);
    const Tensor c = product({a}, {b, transpose_b}, alpha);
    record(op, {a, b}, {c}, [a, b, transpose_b, alpha](const std::vector<Tensor>& dc) {
        Tensor da, db;
        if (a.requires_grad()) da = product({dc[0]}, {b, !transpose_b}, alpha);
        if (b.requires_grad())
            db = transpose_b ? product({dc[0], true}, {a}, alpha) : product({a, true}, {dc[0]}, alpha);
        return std::vector<Tensor>{da, db};
    });
    return c;
}

}  // namespace sieve
