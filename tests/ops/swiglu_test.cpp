#include "framework/ops/swiglu/swiglu.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/ops/silu/silu.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("swiglu: values, far tails included") {
    const Tensor gate = Tensor::from(std::vector<double>{-1000, -30, -1, 0, 0.5, 30, 1000}, {7});
    const Tensor up = random_normal({7}, 1), y = swiglu(gate, up), factor = silu(gate);
    for (int64_t i = 0; i < 7; ++i) {
        const double want = factor.data<double>()[i] * up.data<double>()[i];
        CHECK(std::abs(y.data<double>()[i] - want) <= 1e-15 * std::abs(want));
    }
    const Tensor g = random_normal({257}, 2, DType::float64, 3.0), u = random_normal({257}, 3);
    CHECK(relative_difference(swiglu(g.to(DType::float32), u.to(DType::float32)), swiglu(g, u)) < 1e-6);
}

TEST_CASE("swiglu: gradients of gate, of up and of both") {
    for (const int64_t n : {0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 64, 65, 100, 129})
        for (const int which : {1, 2, 3}) {
            const Tensor gate = random_normal({n}, 4), up = random_normal({n}, 5);
            if (which & 1) gate.set_requires_grad(true);
            if (which & 2) up.set_requires_grad(true);
            check_gradients(
                "n " + std::to_string(n) + " inputs " + std::to_string(which),
                [](const std::vector<Tensor>& in) { return std::vector<Tensor>{swiglu(in[0], in[1])}; },
                {gate, up});
        }
}

TEST_CASE("swiglu: errors") {
    check_error("swiglu: up is [3], want [2], the shape of gate",
                [] { swiglu(Tensor::zeros({2}), Tensor::zeros({3})); });
    check_error("swiglu: up is float64, want float32",
                [] { swiglu(Tensor::zeros({2}), Tensor::zeros({2}, DType::float64)); });
    check_error("swiglu: needs float32 or float64, has int32",
                [] { swiglu(Tensor::zeros({2}, DType::int32), Tensor::zeros({2}, DType::int32)); });
}
