#include "framework/ops/silu/silu.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("silu: values, far tails included", device) {
    const Tensor x = Tensor::from(std::vector<double>{-1000, -30, -1, 0, 0.5, 30, 1000}, {7});
    const Tensor y = silu(x.to(device)).to(Device{});
    for (int64_t i = 0; i < 7; ++i) {
        const double v = x.data<double>()[i];
        CHECK(std::abs(y.data<double>()[i] - v / (1 + std::exp(-v))) <= 1e-12 * std::abs(v));
    }
    const Tensor r = random_normal({257}, 1, DType::float64, 3.0);
    CHECK(relative_difference(silu(r.to(DType::float32).to(device)), silu(r)) < 1e-6);
}

DEVICE_TEST_CASE("silu: gradients", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{silu(in[0])}; };
    for (const int64_t n : {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130}) {
        if (is_emulated(device) && n > 33) continue;
        check_gradients("n " + std::to_string(n), f, {random_normal({n}, 2).set_requires_grad(true)},
                        {.device = device});
    }
    for (const int64_t n : {1, 33, 1025, 5000})
        check_agrees_with_cpu("n " + std::to_string(n), f,
                              {random_normal({n}, 3, DType::float32, 4.0).set_requires_grad(true)}, device,
                              1e-12);
}

TEST_CASE("silu: errors") {
    check_error("silu: needs float32 or float64, has int32", [] { silu(Tensor::zeros({2}, DType::int32)); });
}
