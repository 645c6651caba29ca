#include "framework/core/vector_math.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "framework/core/simd.h"
#include "tests/support/testing.h"

using namespace sieve;

namespace {

template <class T>
SIEVE_INLINE void exp_and_sigmoid(const T* __restrict x, T* __restrict e, T* __restrict s, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        e[i] = simd_exp(x[i]);
        s[i] = simd_sigmoid(x[i]);
    }
}

SIEVE_CLONES void vectorised(const float* x, float* e, float* s, int64_t n) {
    exp_and_sigmoid(x, e, s, n);
}
SIEVE_CLONES void vectorised(const double* x, double* e, double* s, int64_t n) {
    exp_and_sigmoid(x, e, s, n);
}

// Every element of an array must have the bits of a call of length 1, wherever it lies: in the vector body,
// in the remainder, at any offset.
template <class T>
bool lanes_agree(int64_t n) {
    std::vector<T> x(static_cast<size_t>(n)), e(x), s(x);
    for (int64_t i = 0; i < n; ++i) x[i] = T(-90) + T(7) * static_cast<T>(std::fmod(0.37 * double(i), 26.0));
    vectorised(x.data(), e.data(), s.data(), n);
    for (int64_t i = 0; i < n; ++i) {
        T one_e, one_s;
        vectorised(&x[i], &one_e, &one_s, 1);
        if (std::memcmp(&one_e, &e[i], sizeof(T)) != 0 || std::memcmp(&one_s, &s[i], sizeof(T)) != 0)
            return false;
    }
    return true;
}

template <class T>
void check_limits() {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    const T x[9] = {-inf, T(-1000), T(0), T(1000), inf, nan, -nan, T(-0.0), T(1)};
    T e[9], s[9];
    vectorised(x, e, s, 9);
    CHECK(e[0] == 0);
    CHECK(e[1] == 0);
    CHECK(e[2] == 1);
    CHECK(e[3] == inf);
    CHECK(e[4] == inf);
    CHECK(std::isnan(e[5]));
    CHECK(std::isnan(e[6]));
    CHECK(e[7] == 1);
    CHECK(e[8] == doctest::Approx(std::exp(1.0)));
    CHECK(s[0] == 0);
    CHECK(s[1] == 0);
    CHECK(s[2] == T(0.5));
    CHECK(s[4] == 1);
    CHECK(std::isnan(s[5]));
}

}  // namespace

TEST_CASE("simd_exp: accuracy over the whole range") {
    double worst_float = 0, worst_double = 0;
    for (int i = 0; i <= 200000; ++i) {
        const float x = -87.33f + 176.05f * static_cast<float>(i) / 200000.0f;
        const double want = std::exp(static_cast<double>(x));
        worst_float = std::max(worst_float, std::abs(static_cast<double>(simd_exp(x)) - want) / want);
        const double y = -708.39 + 1418.17 * i / 200000.0;
        worst_double = std::max(worst_double, std::abs(simd_exp(y) - std::exp(y)) / std::exp(y));
    }
    CHECK(worst_float < 2.4e-7);
    CHECK(worst_double < 5e-16);
}

TEST_CASE("simd_exp: limits") {
    check_limits<float>();
    check_limits<double>();
}

TEST_CASE("simd_exp: the last finite results on both sides") {
    const float low = -87.33654f, high = 88.72283f;
    CHECK(simd_exp(low) >= std::numeric_limits<float>::min());
    CHECK(simd_exp(std::nextafter(low, -100.0f)) == 0.0f);
    CHECK(static_cast<double>(simd_exp(high)) ==
          doctest::Approx(std::exp(static_cast<double>(high))).epsilon(2e-7));
    CHECK(std::isinf(simd_exp(std::nextafter(high, 100.0f))));
    CHECK(simd_exp(-708.396418532264) >= std::numeric_limits<double>::min());
    CHECK(simd_exp(-708.3964185323) == 0.0);
    CHECK(simd_exp(709.782712893383) == doctest::Approx(std::exp(709.782712893383)).epsilon(1e-15));
    CHECK(std::isinf(simd_exp(709.7827128935)));
}

TEST_CASE("simd_exp, simd_sigmoid: a vector lane gives the bits of a scalar call") {
    for (int64_t n = 0; n <= 130; ++n) {
        CHECK(lanes_agree<float>(n));
        CHECK(lanes_agree<double>(n));
    }
}
