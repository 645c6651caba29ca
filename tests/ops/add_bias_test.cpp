#include "framework/ops/add_bias/add_bias.h"

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("add_bias: values, both dtypes", device) {
    for (const int64_t rows : {0, 1, 2, 33})
        for (const int64_t width : {1, 2, 31, 33}) {
            const Tensor x = random_normal({rows, width}, 1), b = random_normal({width}, 2);
            const Tensor y = add_bias(x.to(device), b.to(device)).to(Device{});
            bool equal = y.shape() == x.shape();
            for (int64_t i = 0; i < rows * width; ++i)
                equal = equal && y.data<double>()[i] == x.data<double>()[i] + b.data<double>()[i % width];
            CHECK(equal);
            const auto single = [&](const Tensor& t) { return t.to(DType::float32).to(device); };
            CHECK(max_abs_difference(add_bias(single(x), single(b)), y) < 1e-6);
        }
}

DEVICE_TEST_CASE("add_bias: gradients, with leading dims", device) {
    for (const int64_t rows : {0, 1, 2, 7})
        for (const int64_t width : {1, 3, 5})
            check_gradients(
                "rows " + std::to_string(rows) + " width " + std::to_string(width),
                [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add_bias(in[0], in[1])}; },
                {random_normal({2, rows, width}, 4).set_requires_grad(true),
                 random_normal({width}, 5).set_requires_grad(true)},
                {.device = device});
}

DEVICE_TEST_CASE("add_bias: many rows and wide ones, on CUDA as on the CPU", device) {
    const auto f = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add_bias(in[0], in[1])}; };
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{700, 3}, {5, 1029}, {131, 64}})
        for (const DType dtype : {DType::float32, DType::float64}) {
            const auto leaf = [dtype = dtype](const Tensor& t) {
                return t.clone().to(dtype).set_requires_grad(true);
            };
            check_agrees_with_cpu("rows " + std::to_string(rows) + " width " + std::to_string(width), f,
                                  {leaf(random_normal({rows, width}, 6)), leaf(random_normal({width}, 7))},
                                  device, dtype == DType::float32 ? 1e-11 : 1e-27);
        }
}

TEST_CASE(
    "add_bias: a gradient that nobody asked for is not computed, and its bits do not depend on threads") {
    const int threads = thread_count();
    const Tensor x = random_normal({5000, 17}, 8, DType::float32);
    const Tensor dy = random_normal({5000, 17}, 9, DType::float32);
    std::vector<Tensor> seen;
    for (const int count : {1, 2}) {
        set_thread_count(count);
        const Tensor bias = Tensor::zeros({17}).set_requires_grad(true);
        backward({add_bias(x, bias)}, {dy});
        CHECK(!x.grad().defined());
        seen.push_back(bias.grad());
    }
    set_thread_count(threads);
    CHECK(bit_identical(seen[0], seen[1]));
    const Tensor leaf = x.clone().set_requires_grad(true), bias = Tensor::zeros({17});
    backward({add_bias(leaf, bias)}, {dy});
    CHECK(bit_identical(leaf.grad(), dy));
    CHECK(!bias.grad().defined());
}

TEST_CASE("add_bias: errors") {
    check_error("add_bias: bias is [4], want [5], the last dim of x [3,5]", [] {
        add_bias(Tensor::zeros({3, 5}), Tensor::zeros({4}));
    });
    check_error("add_bias: x is [3,0], want a last dim of at least 1", [] {
        add_bias(Tensor::zeros({3, 0}), Tensor::zeros({0}));
    });
    check_error("add_bias: bias is float64, want float32", [] {
        add_bias(Tensor::zeros({3, 5}), Tensor::zeros({5}, DType::float64));
    });
}

DEVICE_TEST_CASE("add_bias: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("add_bias: bias is on cpu, want cuda:0, where x is", [&] {
        add_bias(Tensor::zeros({3, 5}, DType::float32, device), Tensor::zeros({5}));
    });
}
