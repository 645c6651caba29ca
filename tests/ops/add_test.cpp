#include "framework/ops/add/add.h"

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("add: values, both dtypes", device) {
    for (const int64_t n : {0, 1, 31, 32, 33, 70000}) {
        const Tensor a = random_normal({n}, 1), b = random_normal({n}, 2);
        const Tensor y = add(a.to(device), b.to(device)).to(Device{});
        bool equal = true;
        for (int64_t i = 0; i < n; ++i)
            equal = equal && y.data<double>()[i] == a.data<double>()[i] + b.data<double>()[i];
        CHECK(equal);
        const auto single = [&](const Tensor& t) { return t.to(DType::float32).to(device); };
        CHECK(relative_difference(add(single(a), single(b)), y) < 1e-6);
    }
}

DEVICE_TEST_CASE("add: elements that do not start at 16 bytes", device) {
    const Tensor a = random_normal({101, 3}, 5, DType::float32).to(device);
    const Tensor y = add(a.rows(1, 101), a.rows(0, 100));
    for (const int64_t i : {0, 1, 50, 99})
        CHECK(bit_identical(y.rows(i, i + 1), add(a.rows(i + 1, i + 2).clone(), a.rows(i, i + 1).clone())));
}

DEVICE_TEST_CASE("add: gradients, also of one tensor used twice", device) {
    for (const int64_t rows : {0, 1, 3}) {
        for (const int64_t width : {1, 5, 33}) {
            const Tensor a = random_normal({rows, width}, 3).set_requires_grad(true);
            const Tensor b = random_normal({rows, width}, 4).set_requires_grad(true);
            check_gradients(
                "a + b", [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add(in[0], in[1])}; },
                {a, b}, {.device = device});
            check_gradients("(a + b) + a, both kept",
                            [](const std::vector<Tensor>& in) {
                                const Tensor inner = add(in[0], in[1]);
                                return std::vector<Tensor>{inner, add(inner, in[0])};
                            },
                            {a, b}, {.device = device});
            check_gradients(
                "a + a", [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add(in[0], in[0])}; },
                {a}, {.device = device});
        }
    }
}

TEST_CASE("add: errors") {
    check_error("add: b is [3], want [2,3], the shape of a", [] {
        add(Tensor::zeros({2, 3}), Tensor::zeros({3}));
    });
    check_error("add: b is float64, want float32",
                [] { add(Tensor::zeros({2}), Tensor::zeros({2}, DType::float64)); });
    check_error("add: needs float32 or float64, has int64",
                [] { add(Tensor::zeros({2}, DType::int64), Tensor::zeros({2}, DType::int64)); });
}

DEVICE_TEST_CASE("add: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("add: b is on cpu, want cuda:0, where a is",
                [&] { add(Tensor::zeros({2}, DType::float32, device), Tensor::zeros({2})); });
}
