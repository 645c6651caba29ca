#include "framework/autograd/autograd.h"

#include "framework/core/allocator.h"
#include "framework/ops/add/add.h"
#include "framework/ops/matmul/matmul.h"
#include "framework/ops/scale/scale.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor leaf(const std::vector<double>& values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())}).set_requires_grad(true);
}

}  // namespace

TEST_CASE("autograd: a tensor used twice receives both gradients") {
    const Tensor x = leaf({1, 2});
    const Tensor y = add(scale(x, 3), x);
    backward({y}, {Tensor::from(std::vector<double>{1, 10}, {2})});
    CHECK(x.grad().to_vector<double>() == std::vector<double>{4, 40});
}

TEST_CASE("autograd: gradients of several backwards add up") {
    const Tensor x = leaf({5});
    for (int i = 0; i < 3; ++i) backward(scale(x, 2));
    CHECK(x.grad().item() == 6);
}

TEST_CASE("autograd: one gradient handed to two tensors is not shared between them") {
    const Tensor a = leaf({1}), b = leaf({2});
    backward(add(a, b));
    a.grad().fill(7);
    CHECK(b.grad().item() == 1);
    const Tensor c = leaf({1});
    backward({add(c, c)}, {Tensor::full({1}, 1.0, DType::float64)});
    CHECK(c.grad().item() == 2);
}

TEST_CASE("autograd: the caller's cotangent is not changed or kept") {
    const Tensor x = leaf({1, 2}), cotangent = Tensor::from(std::vector<double>{3, 4}, {2});
    backward({add(x, x)}, {cotangent});
    CHECK(cotangent.to_vector<double>() == std::vector<double>{3, 4});
    x.grad().fill(0);
    CHECK(cotangent.to_vector<double>() == std::vector<double>{3, 4});
}

TEST_CASE("autograd: no_grad records nothing, detach cuts") {
    const Tensor x = leaf({1});
    {
        const NoGrad guard;
        CHECK(!grad_enabled());
        CHECK(!scale(x, 2).requires_grad());
    }
    CHECK(grad_enabled());
    const Tensor y = add(scale(x, 2), scale(x.detach(), 5));
    backward(y);
    CHECK(x.grad().item() == 2);
}

TEST_CASE("autograd: the graph is freed as backward goes") {
    const int64_t before = memory_stats().live_bytes;
    {
        const Tensor x = Tensor::zeros({1000}, DType::float64).set_requires_grad(true);
        Tensor y = x;
        for (int i = 0; i < 50; ++i) y = add(scale(y, 1.01), x);
        backward({y}, {Tensor::zeros({1000}, DType::float64)});
        // Left: x, its gradient and y.
        CHECK(memory_stats().live_bytes - before <= 3 * 8000);
    }
    CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("autograd: a graph of a hundred thousand nodes neither recurses nor leaks") {
    const int64_t before = memory_stats().live_bytes;
    {
        const Tensor x = leaf({1});
        Tensor y = x;
        for (int i = 0; i < 100000; ++i) y = scale(y, 1.0);
        backward(y);
        CHECK(x.grad().item() == 1);
        Tensor unused = x;
        for (int i = 0; i < 100000; ++i) unused = scale(unused, 1.0);
    }
    CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("autograd: errors") {
    const Tensor x = leaf({1, 2});
    check_error("autograd: backward() without a cotangent needs a one-element root, has [2]",
                [&] { backward(scale(x, 2)); });
    check_error("autograd: root 0 does not depend on any leaf",
                [] { backward(Tensor::zeros({1}, DType::float64)); });
    check_error("autograd: cotangent 0 is [3], want [2], the shape of its root",
                [&] { backward({scale(x, 2)}, {Tensor::zeros({3}, DType::float64)}); });
    check_error("autograd: cotangent 0 is float32, want float64",
                [&] { backward({scale(x, 2)}, {Tensor::zeros({2})}); });
    const Tensor y = scale(leaf({1}), 2);
    backward(y);
    check_error("autograd: backward() a second time through 'scale': its graph was freed by the first",
                [&] { backward(y); });
    check_error("autograd: a int32 tensor has no gradient",
                [] { Tensor::zeros({1}, DType::int32).set_requires_grad(true); });
    check_error("autograd: requires_grad can only be set on a leaf; detach() first",
                [&] { scale(x, 2).set_requires_grad(false); });
}

DEVICE_TEST_CASE("autograd: a gradient or cotangent on another device is refused", device) {
    if (device.is_cpu()) return;
    const Tensor x = leaf({1, 2}).to(device).set_requires_grad(true);
    const Tensor elsewhere = Tensor::zeros({2}, DType::float64);
    check_error("autograd: cotangent 0 is on cpu, want " + to_string(device) + ", where its root is",
                [&] { backward({scale(x, 2)}, {elsewhere}); });
    check_error("autograd: gradient [2] float64 on cpu for a tensor [2] float64 on " + to_string(device),
                [&] { x.set_grad(elsewhere); });
}
