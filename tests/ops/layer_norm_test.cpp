#include "framework/ops/layer_norm/layer_norm.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("layer_norm: values against the formula") {
    for (const int64_t width : {1, 2, 31, 33}) {
        const Tensor x = random_normal({3, width}, 1), g = random_normal({width}, 2),
                     b = random_normal({width}, 3);
        const Tensor y = layer_norm(x, g, b, 1e-3);
        for (int64_t i = 0; i < 3; ++i) {
            const double* row = x.data<double>() + i * width;
            double mean = 0, variance = 0;
            for (int64_t j = 0; j < width; ++j) mean += row[j] / static_cast<double>(width);
            for (int64_t j = 0; j < width; ++j)
                variance += std::pow(row[j] - mean, 2) / static_cast<double>(width);
            for (int64_t j = 0; j < width; ++j)
                CHECK(y.data<double>()[i * width + j] ==
                      doctest::Approx((row[j] - mean) / std::sqrt(variance + 1e-3) * g.data<double>()[j] +
                                      b.data<double>()[j])
                          .epsilon(1e-10));
        }
        CHECK(max_abs_difference(
                  layer_norm(x.to(DType::float32), g.to(DType::float32), b.to(DType::float32), 1e-3), y) <
              1e-5);
    }
}

TEST_CASE("layer_norm: gradients") {
    for (const int64_t rows : {0, 1, 2, 7, 33})
        for (const int64_t width : {1, 2, 5, 33})
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) {
                                return std::vector<Tensor>{layer_norm(in[0], in[1], in[2], 0.1)};
                            },
                            {random_normal({rows, width}, 4).set_requires_grad(true),
                             random_normal({width}, 5).set_requires_grad(true),
                             random_normal({width}, 6).set_requires_grad(true)});
}

TEST_CASE("layer_norm: errors") {
    check_error("layer_norm: bias is [4], want [5], the last dim of x [3,5]", [] {
        layer_norm(Tensor::zeros({3, 5}), Tensor::zeros({5}), Tensor::zeros({4}));
    });
    check_error("layer_norm: x is [3,0], want a last dim of at least 1", [] {
        layer_norm(Tensor::zeros({3, 0}), Tensor::zeros({0}), Tensor::zeros({0}));
    });
}
