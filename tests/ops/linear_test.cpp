#include "framework/ops/linear/linear.h"

#include "framework/autograd/autograd.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor slow_linear(const Tensor& x, const Tensor& weight) {
    const int64_t n = weight.dim(0), k = weight.dim(1), rows = x.shape().drop_last().numel();
    const Tensor y = Tensor::zeros(x.shape().with_last(n), DType::float64);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < n; ++j)
            for (int64_t l = 0; l < k; ++l)
                y.data<double>()[r * n + j] += x.data<double>()[r * k + l] * weight.data<double>()[j * k + l];
    return y;
}

}  // namespace

TEST_CASE("linear: values against the formula") {
    uint64_t seed = 1;
    for (const Shape& shape : {Shape{7}, Shape{3, 1}, Shape{2, 3, 31}, Shape{4, 32}, Shape{1, 5, 33},
                               Shape{0, 4}, Shape{3, 0}, Shape{2, 2, 2, 257}}) {
        for (const int64_t n : {0, 1, 17, 64}) {
            const Tensor x = random_normal(shape, seed++), w = random_normal({n, shape.dim(-1)}, seed++);
            const Tensor y = linear(x, w);
            CHECK(y.shape() == shape.with_last(n));
            CHECK(max_abs_difference(y, slow_linear(x, w)) < 1e-12);
            CHECK(relative_difference(linear(x.to(DType::float32), w.to(DType::float32)), y) < 2e-6);
        }
    }
}

TEST_CASE("linear: gradients") {
    for (const int64_t rows : {0, 1, 3, 8}) {
        for (const int64_t k : {0, 1, 5, 17}) {
            for (const int64_t n : {1, 7}) {
                check_gradients(
                    "rows " + std::to_string(rows) + " k " + std::to_string(k),
                    [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(in[0], in[1])}; },
                    {random_normal({1, rows, k}, 3).set_requires_grad(true),
                     random_normal({n, k}, 4).set_requires_grad(true)});
            }
        }
    }
}

TEST_CASE("linear: float32 gradients follow the float64 ones") {
    const Tensor x = random_normal({2, 33, 40}, 5), w = random_normal({31, 40}, 6),
                 dy = random_normal({2, 33, 31}, 7);
    std::vector<Tensor> dx, dw;
    for (const DType dtype : {DType::float64, DType::float32}) {
        const Tensor x_leaf = x.to(dtype).clone().set_requires_grad(true);
        const Tensor w_leaf = w.to(dtype).clone().set_requires_grad(true);
        backward({linear(x_leaf, w_leaf)}, {dy.to(dtype)});
        dx.push_back(x_leaf.grad());
        dw.push_back(w_leaf.grad());
    }
    CHECK(relative_difference(dx[1], dx[0]) < 2e-6);
    CHECK(relative_difference(dw[1], dw[0]) < 2e-6);
}

TEST_CASE("linear: no gradient is computed for what needs none") {
    const Tensor x = random_normal({2, 3}, 5), w = random_normal({4, 3}, 6);
    w.set_requires_grad(true);
    backward({linear(x, w)}, {random_normal({2, 4}, 7)});
    CHECK(w.grad().defined());
    CHECK(!x.grad().defined());
}

TEST_CASE("linear: a row does not depend on the rows around it") {
    const int64_t rows = 75, k = 130, n = 50;
    const Tensor x = random_normal({rows, k}, 8, DType::float32),
                 w = random_normal({n, k}, 9, DType::float32);
    const Tensor y = linear(x, w);
    for (const auto& [begin, end] : {std::pair{0, 1}, std::pair{74, 75}, std::pair{13, 47}, std::pair{0, 64}})
        CHECK(bit_identical(linear(x.rows(begin, end), w), y.rows(begin, end)));
}

TEST_CASE("linear: errors") {
    check_error("linear: last dims differ: x [2,3], weight [4,5]", [] {
        linear(Tensor::zeros({2, 3}), Tensor::zeros({4, 5}));
    });
    check_error("linear: weight is [3], want 2 dims", [] {
        linear(Tensor::zeros({2, 3}), Tensor::zeros({3}));
    });
    check_error("linear: x is a scalar, want at least 1 dim", [] {
        linear(Tensor::zeros({}), Tensor::zeros({4, 5}));
    });
    check_error("linear: weight is float64, want float32", [] {
        linear(Tensor::zeros({2, 3}), Tensor::zeros({4, 3}, DType::float64));
    });
    check_error("linear: needs float32 or float64, has int32", [] {
        linear(Tensor::zeros({2, 3}, DType::int32), Tensor::zeros({4, 3}, DType::int32));
    });
}

DEVICE_TEST_CASE("linear: on every device", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(in[0], in[1])}; };
    for (const int64_t rows : {0, 1, 7, 65})
        for (const int64_t in : {1, 5, 33})
            for (const int64_t out : {1, 3, 64}) {
                const std::string what =
                    std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out);
                const Tensor x = random_normal({rows, in}, 1), w = random_normal({out, in}, 2);
                const auto leaves = [&](DType dtype) {
                    return std::vector<Tensor>{x.clone().to(dtype).set_requires_grad(true),
                                               w.clone().to(dtype).set_requires_grad(true)};
                };
                check_agrees_with_cpu(what, f, leaves(DType::float64), device, 1e-28);
                check_agrees_with_cpu(what, f, leaves(DType::float32), device, 1e-7);
            }
    check_gradients(
        "2x3x4", f,
        {random_normal({2, 3}, 3).set_requires_grad(true), random_normal({4, 3}, 4).set_requires_grad(true)},
        {.device = device});
}

DEVICE_TEST_CASE("linear: reduced precision on the tensor cores", device) {
    if (device.is_cpu()) return;
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(in[0], in[1])}; };
    const std::vector<Tensor> leaves{random_normal({33, 70}, 1, DType::float32).set_requires_grad(true),
                                     random_normal({17, 70}, 2, DType::float32).set_requires_grad(true)};
    set_precision(Precision::tf32);
    check_agrees_with_cpu("tf32", f, leaves, device, 1e-6);
    set_precision(Precision::bf16);
    check_agrees_with_cpu("bf16", f, leaves, device, 5e-5);
    set_precision(Precision::fp32);
}
