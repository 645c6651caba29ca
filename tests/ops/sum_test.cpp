#include "framework/ops/sum/sum.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("sum: values", device) {
    for (const int64_t n : {0, 1, 2, 31, 32, 33, 257, 40000}) {
        const Tensor x = random_normal({n}, 1);
        long double want = 0;
        for (int64_t i = 0; i < n; ++i) want += x.data<double>()[i];
        const Tensor y = sum(x.to(device));
        CHECK(y.rank() == 0);
        CHECK(y.item() == doctest::Approx(static_cast<double>(want)).epsilon(1e-12));
    }
}

DEVICE_TEST_CASE("sum: float32 is accumulated in float64 and rounded once", device) {
    // 2^24 + 1 has no float32: a float32 accumulator would stay at 2^24.
    const Tensor x = Tensor::full({3}, 1.0);
    x.data<float>()[0] = 16777216.0f;
    x.data<float>()[2] = 2.0f;
    CHECK(sum(x.to(device)).item() == std::nearbyint(16777220.0));
    const int64_t many = is_emulated(device) ? 1 << 15 : 1 << 20;
    const Tensor ones = Tensor::full({many}, 0.1, DType::float32, device);
    CHECK(sum(ones).item() ==
          static_cast<double>(static_cast<float>(static_cast<double>(many) * double{0.1f})));
}

DEVICE_TEST_CASE("sum: gradients", device) {
    for (const int64_t rows : {0, 1, 2, 7}) {
        for (const int64_t width : {1, 2, 5, 17, 33}) {
            if (is_emulated(device) && rows * width > 40) continue;
            check_gradients("rows " + std::to_string(rows) + " width " + std::to_string(width),
                            [](const std::vector<Tensor>& in) { return std::vector<Tensor>{sum(in[0])}; },
                            {random_normal({rows, width}, 3).set_requires_grad(true)}, {.device = device});
        }
    }
}

TEST_CASE("sum: the bits do not depend on the number of threads") {
    const Tensor x = random_normal({200001}, 4);
    const int before = thread_count();
    set_thread_count(1);
    const Tensor one = sum(x);
    set_thread_count(2);
    const Tensor two = sum(x);
    set_thread_count(before);
    CHECK(bit_identical(one, two));
}

TEST_CASE("sum: errors") {
    check_error("sum: needs float32 or float64, has int32", [] { sum(Tensor::zeros({2}, DType::int32)); });
}
