#include "framework/ops/dropout/dropout.h"

#include <cmath>

#include "framework/core/threads.h"
#include "framework/ops/noise/noise.h"
#include "framework/ops/silu/silu.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr RngKey key{42, 5};

// The contract of dropout.h, one element at a time.
double slow_mask(int64_t i, double p) {
    const uint32_t bits = philox(key, static_cast<uint64_t>(i / 4)).v[i % 4];
    return uniform_from_bits(bits) >= static_cast<float>(p) ? 1 / (1 - p) : 0;
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

TEST_CASE("dropout: each element follows the counter-based mask") {
    for (const int64_t n : {0, 1, 3, 4, 5, 255, 256, 257, 5000}) {
        const Tensor x = random_normal({n}, 1), r = random_normal({n}, 2);
        const Tensor y = dropout(x, 0.3, key), z = dropout_add(r, x, 0.3, key), s = silu_dropout(x, 0.3, key);
        const Tensor plain = silu(x);
        double worst = 0;
        for (int64_t i = 0; i < n; ++i) {
            const double m = slow_mask(i, 0.3);
            worst = std::max(worst, std::abs(y.data<double>()[i] - m * x.data<double>()[i]));
            worst = std::max(worst,
                             std::abs(z.data<double>()[i] - r.data<double>()[i] - m * x.data<double>()[i]));
            worst = std::max(worst, std::abs(s.data<double>()[i] - m * plain.data<double>()[i]));
        }
        CHECK(worst < 1e-6);  // the scale 1 / (1 - p) is a float
    }
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

TEST_CASE("dropout: gradients of all three forms") {
    for (const int64_t n : {0, 1, 3, 5, 31, 33, 260}) {
        const Tensor a = random_normal({n}, 3).set_requires_grad(true),
                     b = random_normal({n}, 4).set_requires_grad(true);
        const std::string what = "n " + std::to_string(n);
        using Tensors = std::vector<Tensor>;
        check_gradients(what + " dropout",
                        [](const Tensors& in) { return Tensors{dropout(in[0], 0.4, key)}; }, {a});
        check_gradients(what + " silu",
                        [](const Tensors& in) { return Tensors{silu_dropout(in[0], 0.4, key)}; }, {a});
        check_gradients(what + " add",
                        [](const Tensors& in) { return Tensors{dropout_add(in[0], in[1], 0.4, key)}; },
                        {a, b});
        check_gradients(what + " add p=0",
                        [](const Tensors& in) { return Tensors{dropout_add(in[0], in[1], 0, key)}; }, {a, b});
        check_gradients(what + " noise",
                        [](const Tensors& in) { return Tensors{add_normal_noise(in[0], 0.1, key)}; }, {a});
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

TEST_CASE("noise: normal with the right spread") {
    const Tensor y = add_normal_noise(Tensor::zeros({50000}, DType::float64), 0.1, key);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < y.numel(); ++i) mean += y.data<double>()[i] / 5e4;
    for (int64_t i = 0; i < y.numel(); ++i) variance += std::pow(y.data<double>()[i] - mean, 2) / 5e4;
    CHECK(std::abs(mean) < 2e-3);
    CHECK(std::sqrt(variance) == doctest::Approx(0.1).epsilon(0.02));
    CHECK(bit_identical(add_normal_noise(y, 0, key), y));
}

TEST_CASE("dropout: errors") {
    check_error("dropout: p is 1.000000, want 0 <= p < 1", [] { dropout(Tensor::zeros({2}), 1.0, key); });
    check_error("silu_dropout: p is -0.100000, want 0 <= p < 1",
                [] { silu_dropout(Tensor::zeros({2}), -0.1, key); });
    check_error("dropout_add: x is [3], want [2], the shape of the residual",
                [] { dropout_add(Tensor::zeros({2}), Tensor::zeros({3}), 0.1, key); });
    check_error("add_normal_noise: std is -1.000000, want at least 0",
                [] { add_normal_noise(Tensor::zeros({2}), -1, key); });
}
