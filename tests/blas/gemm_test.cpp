#include "framework/blas/gemm.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "framework/blas/gemm_rate.h"
#include "framework/blas/kernels.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// One product with its operands. Rows are stored `gap` elements further apart than they are long.
template <class T>
struct Case {
    Gemm<T> g;
    std::vector<T> a, b, c;
    const cpu::GemmKernels<T>* kernels = nullptr;  // null: what gemm picks

    Case(int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, int64_t gap = 0,
         uint64_t seed = 1) {
        g.transpose_a = transpose_a;
        g.transpose_b = transpose_b;
        g.m = m, g.n = n, g.k = k;
        g.lda = (transpose_a ? m : k) + gap;
        g.ldb = (transpose_b ? k : n) + gap;
        g.ldc = n + gap;
        a = numbers((transpose_a ? k : m) * g.lda, seed);
        b = numbers((transpose_b ? n : k) * g.ldb, seed + 1);
        c = numbers(m * g.ldc, seed + 2);
    }
    static std::vector<T> numbers(int64_t count, uint64_t seed) {
        return random_uniform({count}, seed, -1, 1, dtype_of<T>).template to_vector<T>();
    }
    T a_at(int64_t i, int64_t l) const {
        return a[static_cast<size_t>(g.transpose_a ? l * g.lda + i : i * g.lda + l)];
    }
    T b_at(int64_t l, int64_t j) const {
        return b[static_cast<size_t>(g.transpose_b ? j * g.ldb + l : l * g.ldb + j)];
    }
    T c_at(int64_t i, int64_t j) const { return c[static_cast<size_t>(i * g.ldc + j)]; }
    double want(int64_t i, int64_t j) const {
        double sum = 0;
        for (int64_t l = 0; l < g.k; ++l) sum += double{a_at(i, l)} * double{b_at(l, j)};
        return double{g.alpha} * sum + (g.beta == T(0) ? 0.0 : double{g.beta} * double{c_at(i, j)});
    }
    void multiply(const Gemm<T>& call) const { kernels ? cpu::gemm_with(*kernels, call) : cpu::gemm(call); }
    // The product into a copy of c.
    std::vector<T> run() {
        std::vector<T> result = c;
        Gemm<T> call = g;
        call.a = a.data(), call.b = b.data(), call.c = result.data();
        multiply(call);
        return result;
    }
    // Rows [i, i+m) times columns [j, j+n) alone, into a tight buffer: must have the bits of the whole
    // product.
    std::vector<T> run_part(int64_t i, int64_t m, int64_t j, int64_t n) {
        std::vector<T> result(static_cast<size_t>(m * n));
        for (int64_t r = 0; r < m; ++r)
            for (int64_t s = 0; s < n; ++s) result[static_cast<size_t>(r * n + s)] = c_at(i + r, j + s);
        Gemm<T> call = g;
        call.m = m, call.n = n, call.ldc = n;
        call.a = a.data() + (g.transpose_a ? i : i * g.lda);
        call.b = b.data() + (g.transpose_b ? j * g.ldb : j);
        call.c = result.data();
        multiply(call);
        return result;
    }
};

template <class T>
void check_values(Case<T>& test) {
    const std::vector<T> got = test.run();
    const double tolerance = std::numeric_limits<T>::epsilon() * (8.0 + static_cast<double>(test.g.k));
    double worst = 0;
    bool gaps_untouched = true;
    for (int64_t i = 0; i < test.g.m; ++i) {
        for (int64_t j = 0; j < test.g.ldc; ++j) {
            const size_t place = static_cast<size_t>(i * test.g.ldc + j);
            if (j >= test.g.n)
                gaps_untouched = gaps_untouched && got[place] == test.c[place];
            else
                worst = std::max(worst, std::abs(got[place] - test.want(i, j)));
        }
    }
    CHECK(worst <= tolerance);
    CHECK(gaps_untouched);
}

template <class T>
void check_parts(Case<T>& test, const std::vector<T>& whole, uint64_t seed) {
    for (uint64_t t = 0; t < 4; ++t) {
        const Philox4 r = philox({seed, t}, 0);
        const int64_t i = r.v[0] % test.g.m, j = r.v[1] % test.g.n;
        const int64_t m = 1 + r.v[2] % (test.g.m - i), n = 1 + r.v[3] % (test.g.n - j);
        INFO("rows " << i << "+" << m << ", columns " << j << "+" << n);
        const std::vector<T> part = test.run_part(i, m, j, n);
        bool same = true;
        for (int64_t y = 0; y < m; ++y)
            same = same && std::memcmp(part.data() + y * n, whole.data() + (i + y) * test.g.ldc + j,
                                       static_cast<size_t>(n) * sizeof(T)) == 0;
        CHECK(same);
    }
}

struct ThreadCount {
    int before = thread_count();
    explicit ThreadCount(int threads) { set_thread_count(threads); }
    ~ThreadCount() { set_thread_count(before); }
};

template <class F>
void for_transposes(F&& f) {
    for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true}) {
            INFO("transpose_a " << transpose_a << ", transpose_b " << transpose_b);
            f(transpose_a, transpose_b);
        }
}

}  // namespace

TEST_CASE_TEMPLATE("gemm: values against a plain sum", T, float, double) {
    for_transposes([](bool transpose_a, bool transpose_b) {
        for (const int64_t m : {1, 2, 5, 11, 12, 13, 33, 97})
            for (const int64_t n : {1, 4, 15, 16, 17, 31, 32, 33, 50, 70})
                for (const int64_t k : {1, 7, 16, 33, 70}) {
                    INFO("m " << m << " n " << n << " k " << k);
                    Case<T> test(m, n, k, transpose_a, transpose_b, m % 3);
                    check_values(test);
                }
    });
}

TEST_CASE_TEMPLATE("gemm: long sums and large products", T, float, double) {
    for_transposes([](bool transpose_a, bool transpose_b) {
        Case<T> deep(7, 35, 5000, transpose_a, transpose_b, 1);
        check_values(deep);
        Case<T> wide(3, 9000, 300, transpose_a, transpose_b);
        check_values(wide);
        Case<T> square(230, 130, 257, transpose_a, transpose_b, 5);
        check_values(square);
    });
}

TEST_CASE_TEMPLATE("gemm: alpha and beta", T, float, double) {
    for (const double alpha : {1.0, -0.7, 0.0})
        for (const double beta : {0.0, 1.0, 0.3})
            for (const int64_t k : {0, 40, 300}) {
                Case<T> test(30, 45, k, false, true, 3);
                test.g.alpha = static_cast<T>(alpha);
                test.g.beta = static_cast<T>(beta);
                INFO("alpha " << alpha << " beta " << beta << " k " << k);
                check_values(test);
                check_parts(test, test.run(), 3);
            }
}

TEST_CASE_TEMPLATE("gemm: empty sizes", T, float, double) {
    for (const int64_t m : {0, 3})
        for (const int64_t n : {0, 4})
            for (const int64_t k : {0, 5}) {
                Case<T> test(m, n, k, false, false, 2);
                check_values(test);
            }
}

TEST_CASE_TEMPLATE("gemm: beta 0 does not read C, NaN and infinity reach their row and column only", T, float,
                   double) {
    Case<T> test(40, 50, 70, false, false);
    for (T& c : test.c) c = std::numeric_limits<T>::quiet_NaN();
    std::vector<T> clean = test.run();
    bool finite = true;
    for (const T c : clean) finite = finite && std::isfinite(c);
    CHECK(finite);
    test.a[13 * 70 + 5] = std::numeric_limits<T>::quiet_NaN();
    test.b[7 * 50 + 33] = std::numeric_limits<T>::infinity();
    const std::vector<T> got = test.run();
    bool as_expected = true;
    for (int64_t i = 0; i < 40; ++i)
        for (int64_t j = 0; j < 50; ++j) {
            const T c = got[static_cast<size_t>(i * 50 + j)];
            const bool right = i == 13   ? std::isnan(c)
                               : j == 33 ? std::isinf(c)
                                         : c == clean[static_cast<size_t>(i * 50 + j)];
            as_expected = as_expected && right;
        }
    CHECK(as_expected);
}

TEST_CASE_TEMPLATE(
    "gemm: the bits of an element do not depend on the product's size, on its place or on the threads", T,
    float, double) {
    uint64_t seed = 10;
    for_transposes([&](bool transpose_a, bool transpose_b) {
        for (const auto& size : {std::array<int64_t, 3>{1, 40, 300},
                                 {9, 1, 1000},
                                 {75, 50, 130},
                                 {64, 64, 31},
                                 {128, 128, 32},
                                 {301, 97, 257},
                                 {256, 256, 256},
                                 {5, 600, 511},
                                 {500, 4, 64},
                                 {203, 330, 600},
                                 {40, 70, 4500}}) {
            const int64_t m = size[0], n = size[1], k = size[2];
            INFO("m " << m << " n " << n << " k " << k);
            Case<T> test(m, n, k, transpose_a, transpose_b, seed % 2, seed);
            std::vector<T> whole;
            {
                const ThreadCount one(1);
                whole = test.run();
                check_parts(test, whole, seed);
            }
            const ThreadCount several(3);
            CHECK(test.run() == whole);
            check_parts(test, whole, ++seed);
        }
    });
}

TEST_CASE("gemm: calls from inside a parallel region") {
    Case<float> test(128, 128, 32, false, true);
    const std::vector<float> want = test.run();
    std::vector<std::vector<float>> got(24);
    const ThreadCount several(3);
    parallel_for(24, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) got[static_cast<size_t>(i)] = test.run();
    });
    for (const std::vector<float>& each : got) CHECK(each == want);
}

TEST_CASE_TEMPLATE("gemm_symmetric: the bits of gemm below the diagonal, their mirror image above", T, float,
                   double) {
    for (const int64_t n : {0, 1, 11, 33, 100, 257, 530})
        for (const int64_t k : {0, 5, 257}) {
            for (const T beta : {T(0), T(0.5)}) {
                INFO("n " << n << " k " << k << " beta " << beta);
                Case<T> test(n, n, k, false, true);
                test.b = test.a;
                test.g.beta = beta;
                test.g.alpha = T(1.5);
                for (int64_t i = 0; i < n; ++i)
                    for (int64_t j = 0; j < i; ++j)
                        test.c[static_cast<size_t>(j * n + i)] = test.c[static_cast<size_t>(i * n + j)];
                std::vector<T> want = test.run();
                for (int64_t i = 0; i < n; ++i)
                    for (int64_t j = 0; j < i; ++j)
                        want[static_cast<size_t>(j * n + i)] = want[static_cast<size_t>(i * n + j)];
                Gemm<T> call = test.g;
                call.a = call.b = test.a.data();
                call.c = test.c.data();
                cpu::gemm_symmetric(call);
                CHECK(test.c == want);
            }
        }
    check_error("gemm_symmetric: C is [2,3], want a square",
                [] { cpu::gemm_symmetric(Gemm<T>{.m = 2, .n = 3}); });
}

TEST_CASE_TEMPLATE("gemm: each instruction set that runs here", T, float, double) {
    for (const cpu::GemmKernels<T>* set : cpu::supported_gemm_kernels<T>()) {
        INFO(set->name);
        for_transposes([&](bool transpose_a, bool transpose_b) {
            for (const auto& [m, n, k] :
                 {std::array<int64_t, 3>{1, 1, 1}, {37, 41, 19}, {64, 48, 32}, {29, 700, 530}}) {
                Case<T> test(m, n, k, transpose_a, transpose_b, 1);
                test.kernels = set;
                check_values(test);
                check_parts(test, test.run(), 5);
            }
        });
    }
}

TEST_CASE("gemm: the backend has a name") {
    CHECK(cpu::gemm_backend().find("own kernels, ") == 0);
}

TEST_CASE("gemm: the measured rate is a rate") {
    const double rate = cpu::measured_sgemm_rate();
    CHECK(rate > 0.1);
    CHECK(rate < 1e6);
}
