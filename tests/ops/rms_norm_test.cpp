#include "framework/ops/rms_norm/rms_norm.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("rms_norm: values against the formula", device) {
    for (const int64_t width : {1, 2, 5, 31, 32, 33, 257}) {
        const Tensor x = random_normal({3, width}, 1), g = random_normal({width}, 2);
        const Tensor y = rms_norm(x.to(device), g.to(device), 1e-3).to(Device{});
        for (int64_t i = 0; i < 3; ++i) {
            double mean = 0;
            for (int64_t j = 0; j < width; ++j) mean += std::pow(x.data<double>()[i * width + j], 2) / width;
            for (int64_t j = 0; j < width; ++j) {
                const double want =
                    x.data<double>()[i * width + j] / std::sqrt(mean + 1e-3) * g.data<double>()[j];
                CHECK(y.data<double>()[i * width + j] == doctest::Approx(want).epsilon(1e-12));
            }
        }
        const Tensor single =
            rms_norm(x.to(DType::float32).to(device), g.to(DType::float32).to(device), 1e-3);
        CHECK(relative_difference(single, y) < 1e-6);
    }
}

DEVICE_TEST_CASE("rms_norm: gradients", device) {
    for (const int64_t rows : {0, 1, 2, 7, 130}) {
        for (const int64_t width : {1, 2, 5, 17, 33}) {
            if (is_emulated(device) && rows * width > 64) continue;
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) {
                                return std::vector<Tensor>{rms_norm(in[0], in[1], 0.1)};
                            },
                            {random_normal({rows, width}, 3).set_requires_grad(true),
                             random_normal({width}, 4).set_requires_grad(true)},
                            {.device = device});
        }
    }
}

DEVICE_TEST_CASE("rms_norm: narrow and wide rows, with packs and without", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{rms_norm(in[0], in[1])}; };
    for (const int64_t rows : {0, 1, 33, 130, 5000})
        for (const int64_t width : {4, 31, 64, 256, 257, 1024, 1028, 2049}) {
            if (rows * width > (is_emulated(device) ? 5000 : 2000000)) continue;
            const Tensor x = random_normal({rows, width}, 5), g = random_normal({width}, 6);
            for (const DType dtype : {DType::float32, DType::float64})
                check_agrees_with_cpu("rows " + std::to_string(rows) + " width " + std::to_string(width), f,
                                      {x.clone().to(dtype).set_requires_grad(true),
                                       g.clone().to(dtype).set_requires_grad(true)},
                                      device, dtype == DType::float32 ? 1e-12 : 1e-28);
        }
}

DEVICE_TEST_CASE("rms_norm: no gradient is computed for what needs none", device) {
    const Tensor x = random_normal({2, 3}, 5).to(device), g = random_normal({3}, 6).to(device);
    g.set_requires_grad(true);
    backward({rms_norm(x, g)}, {random_normal({2, 3}, 7).to(device)});
    CHECK(g.grad().defined());
    CHECK(!x.grad().defined());

    const Tensor y = x.clone().set_requires_grad(true), constant = g.clone();
    backward({rms_norm(y, constant)}, {random_normal({2, 3}, 7).to(device)});
    CHECK(y.grad().defined());
    CHECK(!constant.grad().defined());
}

TEST_CASE("rms_norm: errors") {
    check_error("rms_norm: weight is [4], want [5], the last dim of x [3,5]", [] {
        rms_norm(Tensor::zeros({3, 5}), Tensor::zeros({4}));
    });
    check_error("rms_norm: weight is float64, want float32", [] {
        rms_norm(Tensor::zeros({3, 5}), Tensor::zeros({5}, DType::float64));
    });
    check_error("rms_norm: x is [3,0], want a last dim of at least 1", [] {
        rms_norm(Tensor::zeros({3, 0}), Tensor::zeros({0}));
    });
}

DEVICE_TEST_CASE("rms_norm: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("rms_norm: weight is on cpu, want cuda:0, where x is", [&] {
        rms_norm(Tensor::zeros({3, 5}, DType::float32, device), Tensor::zeros({5}));
    });
}
