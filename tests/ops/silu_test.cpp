#include "framework/ops/silu/silu.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("silu: values, far tails included") {
    const Tensor x = Tensor::from(std::vector<double>{-1000, -30, -1, 0, 0.5, 30, 1000}, {7});
    const Tensor y = silu(x);
    for (int64_t i = 0; i < 7; ++i) {
        const double v = x.data<double>()[i];
        CHECK(y.data<double>()[i] == doctest::Approx(v / (1 + std::exp(-v))).epsilon(1e-12));
    }
    const Tensor r = random_normal({257}, 1, DType::float64, 3.0);
    CHECK(relative_difference(silu(r.to(DType::float32)), silu(r)) < 1e-6);
}

TEST_CASE("silu: gradients") {
    for (const int64_t n : {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130})
        check_gradients("n " + std::to_string(n),
                        [](const std::vector<Tensor>& in) { return std::vector<Tensor>{silu(in[0])}; },
                        {random_normal({n}, 2).set_requires_grad(true)});
}

TEST_CASE("silu: errors") {
    check_error("silu: needs float32 or float64, has int32", [] { silu(Tensor::zeros({2}, DType::int32)); });
}
