#include "framework/ops/softmax/softmax.h"

#include <cmath>
#include <limits>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("softmax: values against the formula", device) {
    const Tensor x = random_normal({4, 33}, 1, DType::float64, 5.0);
    const Tensor y = softmax(x.to(device)).to(Device{});
    for (int64_t i = 0; i < 4; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < 33; ++j) sum += std::exp(x.data<double>()[i * 33 + j]);
        for (int64_t j = 0; j < 33; ++j)
            CHECK(y.data<double>()[i * 33 + j] ==
                  doctest::Approx(std::exp(x.data<double>()[i * 33 + j]) / sum).epsilon(1e-11));
    }
    CHECK(relative_difference(softmax(x.to(DType::float32).to(device)), y) < 1e-6);
}

DEVICE_TEST_CASE("softmax: large values do not overflow, -inf is exactly 0", device) {
    const double inf = std::numeric_limits<double>::infinity();
    for (const std::vector<double>& row :
         {std::vector<double>{1000, 1000, -inf}, std::vector<double>{-inf, 1000, 1000}}) {
        const std::vector<double> y = softmax(Tensor::from(row, {3}, device)).to_vector<double>();
        for (size_t i = 0; i < 3; ++i) CHECK(y[i] == (row[i] == -inf ? 0.0 : 0.5));
    }
}

DEVICE_TEST_CASE("softmax: what is not finite makes its row NaN, and no other", device) {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
    for (const std::vector<double>& bad :
         {std::vector<double>{1, inf, 2}, std::vector<double>{nan, 1, 2}, std::vector<double>{1, 2, nan},
          std::vector<double>{-inf, -inf, -inf}}) {
        std::vector<double> rows = bad;
        rows.insert(rows.end(), {0, 0, -inf});
        const std::vector<double> y = softmax(Tensor::from(rows, {2, 3}, device)).to_vector<double>();
        for (size_t i = 0; i < 3; ++i) CHECK(std::isnan(y[i]));
        CHECK(y[3] == 0.5);
        CHECK(y[5] == 0.0);
    }
}

DEVICE_TEST_CASE("softmax: gradients", device) {
    for (const int64_t rows : {0, 1, 3, 7})
        for (const int64_t width : {1, 2, 5, 31, 33}) {
            if (is_emulated(device) && rows * width > 64) continue;
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) { return std::vector<Tensor>{softmax(in[0])}; },
                            {random_normal({rows, width}, 2).set_requires_grad(true)}, {.device = device});
        }
}

DEVICE_TEST_CASE("softmax: narrow and wide rows, with packs and without", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{softmax(in[0])}; };
    for (const int64_t rows : {1, 9, 3000})
        for (const int64_t width : {4, 33, 256, 1024, 1028, 3001}) {
            if (rows * width > (is_emulated(device) ? 5000 : 2000000)) continue;
            const Tensor x = random_normal({rows, width}, 3, DType::float64, 4.0);
            for (const DType dtype : {DType::float32, DType::float64})
                check_agrees_with_cpu("rows " + std::to_string(rows) + " width " + std::to_string(width), f,
                                      {x.clone().to(dtype).set_requires_grad(true)}, device,
                                      dtype == DType::float32 ? 1e-11 : 1e-27);
        }
}

TEST_CASE("softmax: errors") {
    check_error("softmax: x is [2,0], want a last dim of at least 1", [] { softmax(Tensor::zeros({2, 0})); });
}
