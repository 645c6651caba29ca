#include "framework/ops/softmax/softmax.h"

#include <cmath>
#include <limits>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("softmax: values against the formula") {
    const Tensor x = random_normal({4, 33}, 1, DType::float64, 5.0);
    const Tensor y = softmax(x);
    for (int64_t i = 0; i < 4; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < 33; ++j) sum += std::exp(x.data<double>()[i * 33 + j]);
        for (int64_t j = 0; j < 33; ++j)
            CHECK(y.data<double>()[i * 33 + j] ==
                  doctest::Approx(std::exp(x.data<double>()[i * 33 + j]) / sum).epsilon(1e-11));
    }
    CHECK(relative_difference(softmax(x.to(DType::float32)), y) < 1e-6);
}

TEST_CASE("softmax: large values do not overflow, -inf is exactly 0") {
    const double inf = std::numeric_limits<double>::infinity();
    const Tensor y = softmax(Tensor::from(std::vector<double>{1000, 1000, -inf}, {3}));
    CHECK(y.data<double>()[0] == 0.5);
    CHECK(y.data<double>()[2] == 0.0);
}

TEST_CASE("softmax: gradients") {
    for (const int64_t rows : {0, 1, 3, 7})
        for (const int64_t width : {1, 2, 5, 31, 33})
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) { return std::vector<Tensor>{softmax(in[0])}; },
                            {random_normal({rows, width}, 2).set_requires_grad(true)});
}

TEST_CASE("softmax: errors") {
    check_error("softmax: x is [2,0], want a last dim of at least 1", [] { softmax(Tensor::zeros({2, 0})); });
}
