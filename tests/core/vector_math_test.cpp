#include "framework/core/vector_math.h"

#include <cmath>
#include <vector>

#include "tests/support/testing.h"

using namespace sieve;

TEST_CASE("simd_exp: accuracy over the whole range") {
    double worst_float = 0, worst_double = 0;
    for (int i = 0; i <= 200000; ++i) {
        const float x = -87.0f + 175.5f * static_cast<float>(i) / 200000.0f;
        const double want = std::exp(static_cast<double>(x));
        worst_float = std::max(worst_float, std::abs(simd_exp(x) - want) / want);
        const double y = -700.0 + 1409.0 * i / 200000.0;
        worst_double = std::max(worst_double, std::abs(simd_exp(y) - std::exp(y)) / std::exp(y));
    }
    CHECK(worst_float < 2.4e-7);
    CHECK(worst_double < 5e-16);
}

TEST_CASE("simd_exp: limits") {
    const float inf = std::numeric_limits<float>::infinity();
    CHECK(simd_exp(-inf) == 0.0f);
    CHECK(simd_exp(-1000.0f) == 0.0f);
    CHECK(simd_exp(0.0f) == 1.0f);
    CHECK(simd_exp(inf) == inf);
    CHECK(simd_exp(100.0f) == inf);
    CHECK(std::isfinite(simd_exp(88.6f)));
    CHECK(std::isnan(simd_exp(std::nanf(""))));
    const double dinf = std::numeric_limits<double>::infinity();
    CHECK(simd_exp(-dinf) == 0.0);
    CHECK(simd_exp(0.0) == 1.0);
    CHECK(simd_exp(dinf) == dinf);
    CHECK(std::isnan(simd_exp(std::nan(""))));
    CHECK(simd_sigmoid(0.0) == 0.5);
    CHECK(simd_sigmoid(-1000.0f) == 0.0f);
}

TEST_CASE("simd_exp: a vector lane gives the bits of a scalar call") {
    std::vector<float> x(67), y(67);
    for (size_t i = 0; i < x.size(); ++i) x[i] = -40.0f + 1.3f * static_cast<float>(i);
#pragma omp simd
    for (size_t i = 0; i < x.size(); ++i) y[i] = simd_exp(x[i]);
    for (size_t i = 0; i < x.size(); ++i) {
        volatile float one = x[i];
        CHECK(simd_exp(one) == y[i]);
    }
}
