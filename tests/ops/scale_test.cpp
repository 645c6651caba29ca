#include "framework/ops/scale/scale.h"

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("scale: values, both dtypes", device) {
    for (const int64_t n : {0, 1, 31, 32, 33, 70000}) {
        const Tensor x = random_normal({n}, 1), y = scale(x.to(device), 0.3).to(Device{});
        bool equal = true;
        for (int64_t i = 0; i < n; ++i) equal = equal && y.data<double>()[i] == 0.3 * x.data<double>()[i];
        CHECK(equal);
        CHECK(relative_difference(scale(x.to(DType::float32).to(device), 0.3), y) < 1e-6);
    }
}

DEVICE_TEST_CASE("scale: gradients", device) {
    for (const double factor : {0.0, 1.0, -2.5, 1e-3}) {
        for (const int64_t n : {0, 1, 2, 17, 33}) {
            check_gradients(
                "factor " + std::to_string(factor),
                [=](const std::vector<Tensor>& in) { return std::vector<Tensor>{scale(in[0], factor)}; },
                {random_normal({n}, 3).set_requires_grad(true)}, {.device = device});
        }
    }
}

TEST_CASE("scale: errors") {
    check_error("scale: needs float32 or float64, has int32",
                [] { scale(Tensor::zeros({2}, DType::int32), 2.0); });
}
