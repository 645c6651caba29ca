#include "framework/ops/matmul/matmul.h"

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor slow_matmul(const Tensor& a, const Tensor& b) {
    const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(1);
    const Tensor c = Tensor::zeros({m, n}, DType::float64);
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
            for (int64_t l = 0; l < k; ++l)
                c.data<double>()[i * n + j] += a.data<double>()[i * k + l] * b.data<double>()[l * n + j];
    return c;
}

}  // namespace

TEST_CASE("matmul: values against the formula") {
    for (const int64_t m : {0, 1, 31, 64}) {
        for (const int64_t k : {0, 1, 32, 257}) {
            for (const int64_t n : {0, 1, 33, 50}) {
                const Tensor a = random_normal({m, k}, 1), b = random_normal({k, n}, 2);
                const Tensor c = matmul(a, b);
                CHECK(max_abs_difference(c, slow_matmul(a, b)) < 1e-12);
                CHECK(relative_difference(matmul(a.to(DType::float32), b.to(DType::float32)), c) < 2e-6);
            }
        }
    }
}

TEST_CASE("matmul: gradients") {
    for (const int64_t m : {0, 1, 3, 8}) {
        for (const int64_t k : {0, 1, 5}) {
            for (const int64_t n : {1, 7}) {
                check_gradients(
                    "m " + std::to_string(m) + " k " + std::to_string(k) + " n " + std::to_string(n),
                    [](const std::vector<Tensor>& in) { return std::vector<Tensor>{matmul(in[0], in[1])}; },
                    {random_normal({m, k}, 3).set_requires_grad(true),
                     random_normal({k, n}, 4).set_requires_grad(true)});
            }
        }
    }
}

TEST_CASE("matmul: the gradient of one operand alone, and of a square") {
    const Tensor a = random_normal({2, 3}, 5).set_requires_grad(true), b = random_normal({3, 4}, 6);
    backward({matmul(a, b)}, {random_normal({2, 4}, 7)});
    CHECK(a.grad().defined());
    CHECK(!b.grad().defined());
    check_gradients("a times itself",
                    [](const std::vector<Tensor>& in) { return std::vector<Tensor>{matmul(in[0], in[0])}; },
                    {random_normal({5, 5}, 8).set_requires_grad(true)});
}

TEST_CASE("matmul: errors") {
    check_error("matmul: inner dimensions differ: [4,8] x [6,3]", [] {
        matmul(Tensor::zeros({4, 8}), Tensor::zeros({6, 3}));
    });
    check_error("matmul: a is [4], want 2 dims", [] { matmul(Tensor::zeros({4}), Tensor::zeros({4, 3})); });
    check_error("matmul: b is [1,4,3], want 2 dims", [] {
        matmul(Tensor::zeros({4, 4}), Tensor::zeros({1, 4, 3}));
    });
    check_error("matmul: b is float64, want float32", [] {
        matmul(Tensor::zeros({4, 4}), Tensor::zeros({4, 3}, DType::float64));
    });
}

DEVICE_TEST_CASE("matmul: on every device", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{matmul(in[0], in[1])}; };
    for (const int64_t m : {0, 1, 7, 65})
        for (const int64_t k : {0, 1, 31})
            for (const int64_t n : {1, 5, 33})
                check_agrees_with_cpu(std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n),
                                      f,
                                      {random_normal({m, k}, 1, DType::float32).set_requires_grad(true),
                                       random_normal({k, n}, 2, DType::float32).set_requires_grad(true)},
                                      device, 1e-7);
}
