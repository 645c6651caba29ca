#include "framework/ops/noise/noise.h"

#include <cmath>

#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {
constexpr RngKey key{42, 5};
}

DEVICE_TEST_CASE("noise: element i gets the i-th normal number of the stream", device) {
    for (const int64_t n : {0, 1, 2, 5, 31, 33}) {
        const Tensor x = random_normal({n}, 1);
        const Tensor y = add_normal_noise(x.to(device), 0.1, key).to(Device{});
        for (int64_t i = 0; i < n; ++i) {
            const double want = x.data<double>()[i] + 0.1 * normal_at(key, static_cast<uint64_t>(i));
            // The device's logarithm and cosine may round otherwise.
            CHECK(std::abs(y.data<double>()[i] - want) <= (device.is_cpu() ? 0 : 1e-14));
        }
        CHECK(max_abs_difference(add_normal_noise(x.to(DType::float32).to(device), 0.1, key), y) < 1e-6);
    }
}

DEVICE_TEST_CASE("noise: the stream's offset lies on the device", device) {
    if (device.is_cpu()) return;
    const Tensor offset = Tensor::from(std::vector<int64_t>{3}, {}, device);
    const auto* pointer = reinterpret_cast<const uint64_t*>(offset.data<int64_t>());
    const Tensor x = random_normal({37}, 1).to(device);
    const auto noisy = [&](RngKey k) { return add_normal_noise(x, 0.1, k); };
    CHECK(bit_identical(noisy({42, 5, pointer}), noisy({42, 8})));
    offset.fill(4);
    CHECK(bit_identical(noisy({42, 5, pointer}), noisy({42, 9})));
}

TEST_CASE("noise: normal with the right spread; std 0 is the identity") {
    const Tensor y = add_normal_noise(Tensor::zeros({50000}, DType::float64), 0.1, key);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < y.numel(); ++i) mean += y.data<double>()[i] / 5e4;
    for (int64_t i = 0; i < y.numel(); ++i) variance += std::pow(y.data<double>()[i] - mean, 2) / 5e4;
    CHECK(std::abs(mean) < 2e-3);
    CHECK(std::sqrt(variance) == doctest::Approx(0.1).epsilon(0.02));
    CHECK(bit_identical(add_normal_noise(y, 0, key), y));
}

DEVICE_TEST_CASE("noise: gradients", device) {
    for (const int64_t n : {0, 1, 2, 3, 4, 5, 7, 11, 13, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129}) {
        if (is_emulated(device) && n > 33) continue;
        check_gradients("n " + std::to_string(n),
                        [](const std::vector<Tensor>& in) {
                            return std::vector<Tensor>{add_normal_noise(in[0], 0.1, key)};
                        },
                        {random_normal({n}, 2).set_requires_grad(true)}, {.device = device});
    }
}

TEST_CASE("noise: one thread and two draw the same numbers") {
    const Tensor x = random_normal({5001}, 3, DType::float32);
    const int before = thread_count();
    set_thread_count(1);
    const Tensor one = add_normal_noise(x, 0.5, key);
    set_thread_count(2);
    const Tensor two = add_normal_noise(x, 0.5, key);
    set_thread_count(before);
    CHECK(bit_identical(one, two));
}

TEST_CASE("noise: errors") {
    check_error("add_normal_noise: std is -1.000000, want at least 0",
                [] { add_normal_noise(Tensor::zeros({2}), -1, key); });
    check_error("add_normal_noise: needs float32 or float64, has int32",
                [] { add_normal_noise(Tensor::zeros({2}, DType::int32), 1, key); });
}
