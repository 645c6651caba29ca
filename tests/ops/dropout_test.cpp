#include "framework/ops/dropout/dropout.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "framework/ops/silu/silu.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr RngKey key{42, 5};

// The contract of dropout.h, one element at a time.
double slow_mask(int64_t i, double p) {
    const uint32_t bits = philox(key, static_cast<uint64_t>(i / 4)).v[i % 4];
    return static_cast<double>(uniform_from_bits(bits)) >= p ? 1 / (1 - p) : 0;
}

}  // namespace

TEST_CASE("philox: the published test vectors") {
    // From the reference implementation's known-answer tests (Random123, philox4x32-10).
    const Philox4 zero = philox({0, 0}, 0);
    CHECK(zero.v[0] == 0x6627e8d5u);
    CHECK(zero.v[1] == 0xe169c58du);
    CHECK(zero.v[2] == 0xbc57ac4cu);
    CHECK(zero.v[3] == 0x9b00dbd8u);
    const Philox4 ones = philox({~0ull, ~0ull}, ~0ull);
    CHECK(ones.v[0] == 0x408f276du);
    CHECK(ones.v[1] == 0x41c83b0eu);
    CHECK(ones.v[2] == 0xa20bc7c6u);
    CHECK(ones.v[3] == 0x6d5451fdu);
}

DEVICE_TEST_CASE("dropout: each element follows the counter-based mask", device) {
    for (const int64_t n : {0, 1, 3, 4, 5, 255, 256, 257, 5000}) {
        const Tensor x = random_normal({n}, 1), r = random_normal({n}, 2);
        const Tensor there = x.to(device);
        const Tensor y = dropout(there, 0.3, key).to(Device{});
        const Tensor z = dropout_add(r.to(device), there, 0.3, key).to(Device{});
        const Tensor s = silu_dropout(there, 0.3, key).to(Device{});
        const Tensor plain = silu(x);
        double worst = 0;
        for (int64_t i = 0; i < n; ++i) {
            const double m = slow_mask(i, 0.3);
            worst = std::max(worst, std::abs(y.data<double>()[i] - m * x.data<double>()[i]));
            worst = std::max(worst,
                             std::abs(z.data<double>()[i] - r.data<double>()[i] - m * x.data<double>()[i]));
            worst = std::max(worst, std::abs(s.data<double>()[i] - m * plain.data<double>()[i]));
        }
        CHECK(worst < 1e-14);
    }
}

DEVICE_TEST_CASE("dropout: float32, and elements that do not start at 16 bytes", device) {
    const Tensor x = random_normal({2003, 3}, 1, DType::float32),
                 r = random_normal({2003, 3}, 2, DType::float32);
    const auto odd = [](const Tensor& t) { return t.rows(1, 2003); };
    CHECK(bit_identical(dropout(odd(x.to(device)), 0.3, key), dropout(odd(x), 0.3, key)));
    const auto f = [&](const std::vector<Tensor>& in) {
        return std::vector<Tensor>{dropout_add(in[0], in[1], 0.3, key), silu_dropout(in[1], 0.3, key)};
    };
    check_agrees_with_cpu("packs", f, {r.clone().set_requires_grad(true), x.clone().set_requires_grad(true)},
                          device, 1e-12);
    check_agrees_with_cpu("odd", f,
                          {odd(r).detach().set_requires_grad(true), odd(x).detach().set_requires_grad(true)},
                          device, 1e-12);
}

DEVICE_TEST_CASE("dropout: the stream's offset lies on the device", device) {
    if (device.is_cpu()) return;
    const Tensor offset = Tensor::from(std::vector<int64_t>{3}, {}, device);
    const auto* pointer = reinterpret_cast<const uint64_t*>(offset.data<int64_t>());
    const Tensor x = Tensor::full({100}, 1.0, DType::float32, device);
    CHECK(bit_identical(dropout(x, 0.5, {42, 5, pointer}), dropout(x, 0.5, {42, 8})));
    offset.fill(4);
    CHECK(bit_identical(dropout(x, 0.5, {42, 5, pointer}), dropout(x, 0.5, {42, 9})));
}

TEST_CASE("dropout: keeps the share it should, and the expected value") {
    const Tensor ones = Tensor::full({100000}, 1.0);
    const Tensor y = dropout(ones, 0.1, key);
    double kept = 0, sum = 0;
    for (int64_t i = 0; i < y.numel(); ++i) {
        kept += y.data<float>()[i] != 0;
        sum += static_cast<double>(y.data<float>()[i]);
    }
    CHECK(kept / 1e5 == doctest::Approx(0.9).epsilon(0.01));
    CHECK(sum / 1e5 == doctest::Approx(1.0).epsilon(0.01));
}

DEVICE_TEST_CASE("dropout: gradients of all three forms", device) {
    for (const int64_t n : {0, 1, 3, 5, 31, 33, 260}) {
        if (is_emulated(device) && n > 33) continue;
        const Tensor a = random_normal({n}, 3).set_requires_grad(true),
                     b = random_normal({n}, 4).set_requires_grad(true);
        const std::string what = "n " + std::to_string(n);
        using Tensors = std::vector<Tensor>;
        check_gradients(what + " dropout",
                        [](const Tensors& in) { return Tensors{dropout(in[0], 0.4, key)}; }, {a},
                        {.device = device});
        check_gradients(what + " silu",
                        [](const Tensors& in) { return Tensors{silu_dropout(in[0], 0.4, key)}; }, {a},
                        {.device = device});
        check_gradients(what + " add",
                        [](const Tensors& in) { return Tensors{dropout_add(in[0], in[1], 0.4, key)}; },
                        {a, b}, {.device = device});
        check_gradients(what + " add p=0",
                        [](const Tensors& in) { return Tensors{dropout_add(in[0], in[1], 0, key)}; }, {a, b},
                        {.device = device});
    }
}

TEST_CASE("dropout: one thread and two draw the same mask") {
    const Tensor x = random_normal({20001}, 5, DType::float32);
    const int before = thread_count();
    set_thread_count(1);
    const Tensor one = dropout(x, 0.5, key);
    set_thread_count(2);
    const Tensor two = dropout(x, 0.5, key);
    set_thread_count(before);
    CHECK(bit_identical(one, two));
}

DEVICE_TEST_CASE("dropout: a far block, a rate at each end", device) {
    const int64_t n = is_emulated(device) ? 3 << 10 : 3 << 20;
    const Tensor x = Tensor::full({n}, 1.0, DType::float32, device);
    const Tensor y = dropout(x, 0.75, key).to(Device{});
    for (const int64_t i : {int64_t{0}, n / 3, n - 1})
        CHECK(static_cast<double>(y.data<float>()[i]) == slow_mask(i, 0.75));
    CHECK(bit_identical(dropout(x, 0, key), x));
    CHECK(bit_identical(dropout_add(x, x, 0, key), Tensor::full(x.shape(), 2.0)));
    const Tensor rare = dropout(x, 1e-9, key), all = dropout(x, 1 - 1e-9, key);
    CHECK(bit_identical(rare, Tensor::full(x.shape(), 1.0)));  // only a word of 24 zero bits would be dropped
    CHECK(bit_identical(all, Tensor::zeros(x.shape())));
}

TEST_CASE("dropout: an element's bits do not depend on how many follow it") {
    const auto all_forms = [](int64_t n, DType dtype) {
        const Tensor x = random_normal({n}, 8, dtype, 4.0).set_requires_grad(true);
        const Tensor r = random_normal({n}, 9, dtype);
        const Tensor add = dropout_add(r, x, 0.3, key), silu = silu_dropout(x, 0.3, key);
        backward({silu}, {random_normal({n}, 10, dtype)});
        return std::vector<Tensor>{add, silu, x.grad()};
    };
    for (const DType dtype : {DType::float32, DType::float64}) {
        const std::vector<Tensor> whole = all_forms(600, dtype);
        for (const int64_t n : {1, 2, 3, 7, 15, 17, 31, 33, 100, 255, 257, 500})
            for (size_t f = 0; f < whole.size(); ++f)
                CHECK(bit_identical(all_forms(n, dtype)[f], whole[f].rows(0, n)));
    }
}

TEST_CASE("dropout: errors") {
    check_error("dropout: p is 1.000000, want 0 <= p < 1", [] { dropout(Tensor::zeros({2}), 1.0, key); });
    check_error("silu_dropout: p is -0.100000, want 0 <= p < 1",
                [] { silu_dropout(Tensor::zeros({2}), -0.1, key); });
    check_error("dropout_add: x is [3], want [2], the shape of the residual",
                [] { dropout_add(Tensor::zeros({2}), Tensor::zeros({3}), 0.1, key); });
}

DEVICE_TEST_CASE("dropout: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("dropout_add: x is on cpu, want cuda:0, where the residual is", [&] {
        dropout_add(Tensor::zeros({2}, DType::float32, device), Tensor::zeros({2}), 0.1, key);
    });
}
