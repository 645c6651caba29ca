#include "framework/ops/batched_matmul/batched_matmul.h"

#include "framework/core/threads.h"
#include "framework/ops/matmul/matmul.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor transposed(const Tensor& b) {
    const Tensor t = Tensor::empty({b.dim(0), b.dim(2), b.dim(1)}, b.dtype());
    for (int64_t n = 0; n < b.dim(0); ++n)
        for (int64_t i = 0; i < b.dim(1); ++i)
            for (int64_t j = 0; j < b.dim(2); ++j)
                t.data<double>()[(n * b.dim(2) + j) * b.dim(1) + i] =
                    b.data<double>()[(n * b.dim(1) + i) * b.dim(2) + j];
    return t;
}

Tensor matrix(const Tensor& x, int64_t n) {
    return x.rows(n, n + 1).alias({x.dim(1), x.dim(2)});
}

}  // namespace

DEVICE_TEST_CASE("batched_matmul: each product is matmul's, on one and two threads", device) {
    const int threads = thread_count();
    for (const int64_t N : {0, 1, 3, 5})
        for (const auto& [m, k, p] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 0, 2}, {7, 5, 33}}) {
            const Tensor a = random_normal({N, m, k}, 1), b = random_normal({N, k, p}, 2);
            set_thread_count(1);
            const Tensor c = batched_matmul(a.to(device), b.to(device), false, -0.5).to(Device{});
            set_thread_count(2);
            CHECK(bit_identical(c, batched_matmul(a.to(device), b.to(device), false, -0.5).to(Device{})));
            CHECK(max_abs_difference(
                      c, batched_matmul(a.to(device), transposed(b).to(device), true, -0.5).to(Device{})) <
                  1e-12);
            REQUIRE(c.shape() == Shape{N, m, p});
            for (int64_t n = 0; n < N; ++n) {
                const Tensor want = matmul(matrix(a, n), matrix(b, n));
                for (int64_t i = 0; i < m * p; ++i)
                    CHECK(matrix(c, n).data<double>()[i] ==
                          doctest::Approx(-0.5 * want.data<double>()[i]).epsilon(1e-12));
            }
        }
    set_thread_count(threads);
}

DEVICE_TEST_CASE("batched_matmul: gradients of both operands", device) {
    for (const bool transpose_b : {false, true})
        check_gradients(
            "transpose_b " + std::to_string(transpose_b),
            [&](const std::vector<Tensor>& in) {
                return std::vector<Tensor>{batched_matmul(in[0], in[1], transpose_b, 0.7)};
            },
            {random_normal({3, 4, 5}, 3).set_requires_grad(true),
             random_normal(transpose_b ? Shape{3, 2, 5} : Shape{3, 5, 2}, 4).set_requires_grad(true)},
            {.device = device});
}

TEST_CASE("batched_matmul: errors") {
    const Tensor a = Tensor::zeros({2, 3, 4});
    check_error("batched_matmul: b is [2,5,4], want [2,4,4], to fit a [2,3,4]", [&] {
        batched_matmul(a, Tensor::zeros({2, 5, 4}));
    });
    check_error("batched_matmul: b is [1,5,4], want [2,5,4], to fit a [2,3,4]", [&] {
        batched_matmul(a, Tensor::zeros({1, 5, 4}), true);
    });
    check_error("batched_matmul: a is [4], want 3 dims", [&] { batched_matmul(Tensor::zeros({4}), a); });
}
