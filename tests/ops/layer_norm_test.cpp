#include "framework/ops/layer_norm/layer_norm.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("layer_norm: values against the formula", device) {
    for (const int64_t width : {1, 2, 31, 33}) {
        const Tensor x = random_normal({3, width}, 1), g = random_normal({width}, 2),
                     b = random_normal({width}, 3);
        const Tensor y = layer_norm(x.to(device), g.to(device), b.to(device), 1e-3).to(Device{});
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
        const auto single = [&](const Tensor& t) { return t.to(DType::float32).to(device); };
        CHECK(max_abs_difference(layer_norm(single(x), single(g), single(b), 1e-3), y) < 1e-5);
    }
}

DEVICE_TEST_CASE("layer_norm: gradients", device) {
    for (const int64_t rows : {0, 1, 2, 7, 33})
        for (const int64_t width : {1, 2, 5, 33}) {
            if (is_emulated(device) && rows * width > 64) continue;
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) {
                                return std::vector<Tensor>{layer_norm(in[0], in[1], in[2], 0.1)};
                            },
                            {random_normal({rows, width}, 4).set_requires_grad(true),
                             random_normal({width}, 5).set_requires_grad(true),
                             random_normal({width}, 6).set_requires_grad(true)},
                            {.device = device});
        }
}

DEVICE_TEST_CASE("layer_norm: narrow and wide rows, with packs and without", device) {
    const auto f = [](const std::vector<Tensor>& in) {
        return std::vector<Tensor>{layer_norm(in[0], in[1], in[2])};
    };
    for (const int64_t rows : {0, 1, 33, 130, 5000})
        for (const int64_t width : {4, 31, 64, 257, 1024, 1028, 2049}) {
            if (rows * width > (is_emulated(device) ? 5000 : 2000000)) continue;
            const Tensor x = random_normal({rows, width}, 5);
            const Tensor g = random_normal({width}, 6), b = random_normal({width}, 7);
            for (const DType dtype : {DType::float32, DType::float64}) {
                const auto leaf = [&](const Tensor& t) {
                    return t.clone().to(dtype).set_requires_grad(true);
                };
                check_agrees_with_cpu("rows " + std::to_string(rows) + " width " + std::to_string(width), f,
                                      {leaf(x), leaf(g), leaf(b)}, device,
                                      dtype == DType::float32 ? 1e-11 : 1e-27);
            }
        }
}

TEST_CASE("layer_norm: errors") {
    check_error("layer_norm: bias is [4], want [5], the last dim of x [3,5]", [] {
        layer_norm(Tensor::zeros({3, 5}), Tensor::zeros({5}), Tensor::zeros({4}));
    });
    check_error("layer_norm: x is [3,0], want a last dim of at least 1", [] {
        layer_norm(Tensor::zeros({3, 0}), Tensor::zeros({0}), Tensor::zeros({0}));
    });
}

DEVICE_TEST_CASE("layer_norm: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("layer_norm: bias is on cpu, want cuda:0, where x is", [&] {
        layer_norm(Tensor::zeros({3, 5}, DType::float32, device), Tensor::zeros({5}, DType::float32, device),
                   Tensor::zeros({5}));
    });
}
