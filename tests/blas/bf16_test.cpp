// Products in bfloat16: the instructions against their scalar models, and the bits of whole products against
// sums written out with those models, for every way that runs here. AMX's packing and loop over tiles run
// everywhere, with a model in place of the processor's tiles.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>
#define SIEVE_TESTS_INSTRUCTIONS
#endif

#include "framework/blas/bf16_rounding.h"
#include "framework/blas/gemm.h"
#include "framework/blas/kernels.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"
#include "framework/core/vectors.h"
#include "tests/blas/bf16_model.h"
#include "tests/support/precision_scope.h"
#include "tests/support/testing.h"
// In the order of their needs.
// clang-format off
#include "framework/blas/kernels_inl.h"
#include "framework/blas/pair_packing_inl.h"
#include "framework/blas/amx_tiles_inl.h"
// clang-format on

using namespace sieve;
using namespace sieve::testing;

namespace {

struct OnThreads {
    int before = thread_count();
    explicit OnThreads(int threads) { set_thread_count(threads); }
    ~OnThreads() { set_thread_count(before); }
};

bool same_bits(float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || bits_of(a) == bits_of(b);
}

const cpu::PairKernels* find_kernels(const std::string& name) {
    for (const cpu::PairKernels* set : cpu::supported_pair_kernels())
        if (set->name == name) return set;
    return nullptr;
}

// ---- the numbers that instructions are compared on

enum Range { moderate, near_underflow, subnormal, wide };

class Numbers {
  public:
    explicit Numbers(Range range) : range_(range) {}
    uint32_t word() {
        if (at_ % 4 == 0) words_ = philox({static_cast<uint64_t>(range_), 7}, at_ / 4);
        return words_.v[at_++ % 4];
    }
    // A bfloat16.
    uint32_t half() {
        const uint32_t bits = word();
        uint32_t exponent = 0;
        if (range_ == moderate) exponent = 123 + word() % 8;
        if (range_ == near_underflow) exponent = 58 + word() % 12;
        if (range_ == subnormal) exponent = word() % 3 ? 58 + word() % 12 : word() % 2;
        if (range_ == wide) exponent = 97 + word() % 60;
        return (bits & 0x807f) | exponent << 7;
    }
    uint32_t pair() {
        const uint32_t low = half();
        return low | half() << 16;
    }
    // A float to add to: of the size of the products.
    float sum() {
        const uint32_t bits = word();
        uint32_t exponent = 123 + word() % 8;
        if (range_ == near_underflow || range_ == subnormal) exponent = word() % 10;
        if (range_ == wide) exponent = 67 + word() % 120;
        return float_of((bits & 0x807fffff) | exponent << 23);
    }

  private:
    Range range_;
    uint64_t at_ = 0;
    Philox4 words_{};
};

#ifdef SIEVE_TESTS_INSTRUCTIONS

constexpr Range ranges[] = {moderate, near_underflow, subnormal, wide};

__attribute__((target("avx512f,avx512bw,avx512bf16"))) void vdpbf16ps(float* c, const uint32_t* a,
                                                                      const uint32_t* b) {
    _mm512_storeu_ps(c, _mm512_dpbf16_ps(_mm512_loadu_ps(c), (__m512bh)_mm512_loadu_si512(a),
                                         (__m512bh)_mm512_loadu_si512(b)));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void vcvtneps2bf16(uint16_t* y,
                                                                                   const float* x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x)));
}

// c [16,16] += a [16 rows, 16 pairs] b [16 pairs, 16 columns]
__attribute__((target("amx-tile,amx-bf16"))) void tdpbf16ps(float* c, const uint32_t* a, const uint32_t* b) {
    _tile_loadd(0, c, 64);
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_stored(0, c, 64);
}

#endif

// ---- AMX's tiles as a model

struct ModelTiles {
    static constexpr int64_t size = 16;
    using Sums = std::array<float, size * size>;
    using Pairs = std::array<uint32_t, size * size>;
    static inline thread_local std::array<Sums, 4> sums;
    static inline thread_local std::array<Pairs, 2> a, b;

    static void zero_sums() { sums = {}; }
    static void load(Pairs& tile, const cpu::Bf16Pair* p, int64_t row_bytes) {
        for (int64_t i = 0; i < size; ++i)
            std::memcpy(&tile[static_cast<size_t>(i * size)],
                        reinterpret_cast<const char*>(p) + i * row_bytes, size * sizeof(uint32_t));
    }
    static void load_a0(const cpu::Bf16Pair* p, int64_t row_bytes) { load(a[0], p, row_bytes); }
    static void load_a1(const cpu::Bf16Pair* p, int64_t row_bytes) { load(a[1], p, row_bytes); }
    static void load_b0(const cpu::Bf16Pair* p, int64_t row_bytes) { load(b[0], p, row_bytes); }
    static void load_b1(const cpu::Bf16Pair* p, int64_t row_bytes) { load(b[1], p, row_bytes); }
    static void multiply(Sums& c, const Pairs& x, const Pairs& y) {
        for (int64_t i = 0; i < size; ++i)
            for (int64_t j = 0; j < size; ++j) {
                float& sum = c[static_cast<size_t>(i * size + j)];
                sum =
                    tile_step(sum, &x[static_cast<size_t>(i * size)], &y[static_cast<size_t>(j)], size, size);
            }
    }
    static void multiply_00() { multiply(sums[0], a[0], b[0]); }
    static void multiply_01() { multiply(sums[1], a[0], b[1]); }
    static void multiply_10() { multiply(sums[2], a[1], b[0]); }
    static void multiply_11() { multiply(sums[3], a[1], b[1]); }
    static void store_sums(float* c, int64_t ldc) {
        for (int64_t i = 0; i < 2 * size; ++i)
            for (int64_t j = 0; j < 2 * size; ++j)
                c[i * ldc + j] = sums[static_cast<size_t>(i / size * 2 + j / size)]
                                     [static_cast<size_t>(i % size * size + j % size)];
    }
};

const cpu::PairKernels& model_of_amx() {
    static const cpu::PairKernels set = cpu::PairPacking<16, 8>::kernels(
        "AMX, modelled", cpu::amx_tile_rows, cpu::amx_tile_pairs, cpu::amx_tile<ModelTiles>);
    return set;
}

// ---- whole products

using Sum = std::function<float(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b)>;

// One k_block's sum by a chain of vdpbf16ps.
float chain(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
    float sum = 0;
    for (size_t l = 0; l < a.size(); ++l) sum = dot_product_step(sum, a[l], b[l]);
    return sum;
}
// The same by tdpbf16ps over 16 pairs at a time, zeros behind the last.
float tiles(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
    float sum = 0;
    for (size_t l = 0; l < a.size(); l += 16) {
        uint32_t x[16] = {}, y[16] = {};
        for (size_t i = l; i < std::min(a.size(), l + 16); ++i) x[i - l] = a[i], y[i - l] = b[i];
        sum = tile_step(sum, x, y, 16, 1);
    }
    return sum;
}

// A way to multiply, and how it sums.
struct Way {
    std::string name;
    std::function<void(const Gemm<float>&)> multiply;
    Sum sum;
};

std::vector<Way> ways() {
    std::vector<Way> all;
    for (const cpu::PairKernels* set : cpu::supported_pair_kernels())
        all.push_back({set->name, [set](const Gemm<float>& g) { cpu::gemm_with(*set, g); },
                       std::string(set->name) == "AMX" ? tiles : chain});
    all.push_back({"AMX, modelled", [](const Gemm<float>& g) { cpu::gemm_with(model_of_amx(), g); }, tiles});
    for (const cpu::GemmKernels<float>* set : cpu::supported_gemm_kernels<float>())
        all.push_back({std::string("rounded, ") + set->name,
                       [set](const Gemm<float>& g) { cpu::gemm_with_rounded(*set, g); }, chain});
    return all;
}

struct Operands {
    Gemm<float> g;
    std::vector<float> a, b, c;

    Operands(int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, int64_t gap = 0) {
        g = {.transpose_a = transpose_a, .transpose_b = transpose_b, .m = m, .n = n, .k = k};
        g.lda = (transpose_a ? m : k) + gap;
        g.ldb = (transpose_b ? k : n) + gap;
        g.ldc = n + gap;
        a = numbers((transpose_a ? k : m) * g.lda, 1);
        b = numbers((transpose_b ? n : k) * g.ldb, 2);
        c = numbers(m * g.ldc, 3);
    }
    // Among them ties, which random numbers never are, and subnormal numbers.
    static std::vector<float> numbers(int64_t count, uint64_t seed) {
        std::vector<float> x = random_normal({count}, seed, DType::float32).to_vector<float>();
        for (size_t i = 0; i < x.size(); i += 5) x[i] = float_of((bits_of(x[i]) & 0xffff0000) | 0x8000);
        for (size_t i = 3; i < x.size(); i += 29) x[i] *= 0x1p-130f;
        return x;
    }
    float a_at(int64_t i, int64_t l) const {
        return a[static_cast<size_t>(g.transpose_a ? l * g.lda + i : i * g.lda + l)];
    }
    float b_at(int64_t l, int64_t j) const {
        return b[static_cast<size_t>(g.transpose_b ? j * g.ldb + l : l * g.ldb + j)];
    }
    // Element (i, j), written out.
    float want(int64_t i, int64_t j, const Sum& sum) const {
        float result = g.beta == 0 ? 0.0f : g.beta * c[static_cast<size_t>(i * g.ldc + j)];
        for (int64_t begin = 0; begin < g.k; begin += 512) {
            const int64_t end = std::min(g.k, begin + 512);
            std::vector<uint32_t> x, y;
            for (int64_t l = begin; l < end; l += 2) {
                const bool odd = l + 1 < end;
                x.push_back(pair_of(a_at(i, l), odd ? a_at(i, l + 1) : 0.0f));
                y.push_back(pair_of(g.alpha * b_at(l, j), odd ? g.alpha * b_at(l + 1, j) : 0.0f));
            }
            const float block = sum(x, y);
            result = begin > 0 || g.beta != 0 ? result + block : block;
        }
        return result;
    }
    std::vector<float> run(const Way& way) const {
        std::vector<float> result = c;
        Gemm<float> call = g;
        call.a = a.data(), call.b = b.data(), call.c = result.data();
        way.multiply(call);
        return result;
    }
};

// How many elements of the product have other bits than the model; gaps between rows count, too.
int64_t differences(const Operands& test, const Way& way) {
    const std::vector<float> got = test.run(way);
    int64_t count = 0;
    for (int64_t i = 0; i < test.g.m; ++i)
        for (int64_t j = 0; j < test.g.ldc; ++j) {
            const auto place = static_cast<size_t>(i * test.g.ldc + j);
            count += !same_bits(got[place], j < test.g.n ? test.want(i, j, way.sum) : test.c[place]);
        }
    return count;
}

constexpr std::array<int64_t, 3> shapes[] = {{1, 1, 1},    {1, 40, 2},    {7, 15, 3},  {12, 32, 33},
                                             {13, 33, 31}, {33, 17, 64},  {97, 70, 5}, {31, 96, 511},
                                             {5, 18, 513}, {34, 35, 1100}};

template <class F>
void for_shapes(const F& f) {
    for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true})
            for (const std::array<int64_t, 3>& shape : shapes) {
                const int64_t m = shape[0], n = shape[1], k = shape[2];
                INFO("m " << m << " n " << n << " k " << k << ", transpose_a " << transpose_a
                          << ", transpose_b " << transpose_b);
                f(Operands(m, n, k, transpose_a, transpose_b, m % 3));
            }
}

void check_product(const std::string& name) {
    for (const Way& way : ways()) {
        if (way.name != name) continue;
        INFO(name);
        return for_shapes([&](const Operands& test) { CHECK(differences(test, way) == 0); });
    }
    skip("no " + name + " here");
}

}  // namespace

TEST_CASE("bf16: rounding is to nearest even, keeps NaN, and takes subnormal numbers for zero") {
    int64_t wrong = 0;
    for (uint32_t high = 0; high < 0x10000; ++high)
        for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
            const uint32_t bits = high << 16 | low;
            wrong += cpu::bf16_bits(bits) != bf16_of(float_of(bits));
        }
    CHECK(wrong == 0);
    CHECK(bf16_of(1.0f) == 0x3f80);
    CHECK(bf16_of(float_of(0x3f808000)) == 0x3f80);  // ties go to the even one
    CHECK(bf16_of(float_of(0x3f818000)) == 0x3f82);
    CHECK(bf16_of(float_of(0x7f7fffff)) == 0x7f80);  // the largest float32 becomes infinity
    CHECK(bf16_of(float_of(0x7f800001)) == 0x7fc0);
    CHECK(bf16_of(-1e-40f) == 0x8000);
}

TEST_CASE("bf16: vcvtneps2bf16 is its scalar model, bit by bit") {
#ifdef SIEVE_TESTS_INSTRUCTIONS
    if (!find_kernels("AVX512_BF16")) return skip("no AVX512_BF16 here");
    int64_t wrong = 0;
    for (uint32_t high = 0; high < 0x10000; ++high) {
        float x[16];
        uint16_t y[16];
        for (uint32_t i = 0; i < 16; ++i) {
            constexpr uint32_t low[] = {0, 1, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff};
            x[i] = float_of(high << 16 | (i < 8 ? low[i] : (high * 40503 + i * 4099) % 0x10000));
        }
        vcvtneps2bf16(y, x);
        for (size_t i = 0; i < 16; ++i) wrong += y[i] != bf16_of(x[i]);
    }
    CHECK(wrong == 0);
#else
    skip("this compiler's tests use no instructions by name");
#endif
}

TEST_CASE("bf16: vdpbf16ps is its scalar model, bit by bit") {
#ifdef SIEVE_TESTS_INSTRUCTIONS
    if (!find_kernels("AVX512_BF16")) return skip("no AVX512_BF16 here");
    for (const Range range : ranges) {
        Numbers numbers(range);
        int64_t lanes = 0, wrong = 0, told_apart = 0;
        while (lanes < 204800) {
            uint32_t a[16], b[16];
            float c[16], got[16];
            for (size_t i = 0; i < 16; ++i)
                a[i] = numbers.pair(), b[i] = numbers.pair(), got[i] = c[i] = numbers.sum();
            vdpbf16ps(got, a, b);
            for (size_t i = 0; i < 16; ++i, ++lanes) {
                wrong += !same_bits(got[i], dot_product_step(c[i], a[i], b[i]));
                told_apart += !same_bits(got[i], dot_product_step_even_first(c[i], a[i], b[i]));
            }
        }
        INFO("range " << range << ", " << lanes << " lanes");
        CHECK(wrong == 0);
        CHECK(told_apart > lanes / 100);  // or the comparison would show little
    }
#else
    skip("this compiler's tests use no instructions by name");
#endif
}

TEST_CASE("bf16: tdpbf16ps is its scalar model, bit by bit") {
#ifdef SIEVE_TESTS_INSTRUCTIONS
    const cpu::PairKernels* amx = find_kernels("AMX");
    if (!amx) return skip("no AMX here, or the system refuses it");
    amx->enter();
    for (const Range range : ranges) {
        Numbers numbers(range);
        int64_t elements = 0, wrong = 0;
        while (elements < 102400) {
            uint32_t a[256], b[256];
            float c[256], got[256];
            for (size_t i = 0; i < 256; ++i)
                a[i] = numbers.pair(), b[i] = numbers.pair(), got[i] = c[i] = numbers.sum();
            tdpbf16ps(got, a, b);
            for (size_t i = 0; i < 256; ++i, ++elements)
                wrong += !same_bits(got[i], tile_step(c[i], a + i / 16 * 16, b + i % 16, 16, 16));
        }
        INFO("range " << range << ", " << elements << " elements");
        CHECK(wrong == 0);
    }
    amx->leave();
#else
    skip("this compiler's tests use no instructions by name");
#endif
}

TEST_CASE("bf16: a product has the bits of its model, by AVX512_BF16") {
    check_product("AVX512_BF16");
}

TEST_CASE("bf16: a product has the bits of its model, by AMX") {
    check_product("AMX");
}

TEST_CASE("bf16: a product has the bits of its model, by AMX's loops over modelled tiles") {
    check_product("AMX, modelled");
}

TEST_CASE(
    "bf16: a product has the bits of its model, by rounding alone, in each instruction set that runs here") {
    for (const cpu::GemmKernels<float>* set : cpu::supported_gemm_kernels<float>())
        check_product(std::string("rounded, ") + set->name);
}

TEST_CASE("bf16: alpha joins B before it is rounded, beta scales C, k may be 0") {
    for (const Way& way : ways())
        for (const float alpha : {1.0f, -0.7f, 0.0f})
            for (const float beta : {0.0f, 1.0f, 0.3f})
                for (const int64_t k : {0, 40, 600}) {
                    Operands test(30, 45, k, false, true, 3);
                    test.g.alpha = alpha, test.g.beta = beta;
                    INFO(way.name << " alpha " << alpha << " beta " << beta << " k " << k);
                    CHECK(differences(test, way) == 0);
                }
}

TEST_CASE("bf16: the bits do not depend on the threads, nor on the other rows and columns") {
    for (const Way& way : ways()) {
        INFO(way.name);
        const Operands test(203, 330, 600, false, true);
        std::vector<float> one;
        {
            const OnThreads single(1);
            one = test.run(way);
        }
        for (const int threads : {2, 3, 5}) {
            const OnThreads several(threads);
            CHECK(test.run(way) == one);
        }
        for (const auto& [i, j] : {std::array<int64_t, 2>{0, 0}, {77, 329}, {202, 100}})
            CHECK(same_bits(one[static_cast<size_t>(i * 330 + j)], test.want(i, j, way.sum)));
    }
}

TEST_CASE("bf16: NaN and infinity reach their row and column only") {
    for (const Way& way : ways()) {
        INFO(way.name);
        Operands test(40, 50, 70, false, false);
        for (size_t i = 0; i < 40; ++i)
            test.a[i * 70 + 7] = test.a[i * 70 + 8] = 1;  // 0 times infinity is NaN
        const std::vector<float> clean = test.run(way);
        test.a[13 * 70 + 5] = float_of(0x7fffffff);  // a NaN that must not be rounded up to -0
        test.b[7 * 50 + 33] = std::numeric_limits<float>::infinity();
        test.b[8 * 50 + 34] = std::numeric_limits<float>::max();  // rounds to infinity
        const std::vector<float> got = test.run(way);
        bool as_expected = true;
        for (int64_t i = 0; i < 40; ++i)
            for (int64_t j = 0; j < 50; ++j) {
                const float c = got[static_cast<size_t>(i * 50 + j)];
                const bool right = i == 13              ? std::isnan(c)
                                   : j == 33 || j == 34 ? std::isinf(c)
                                                        : c == clean[static_cast<size_t>(i * 50 + j)];
                as_expected = as_expected && right;
            }
        CHECK(as_expected);
    }
}

TEST_CASE("bf16: gemm and its relatives take the machine's way at that precision, float64 does not") {
    const PrecisionScope bf16(Precision::bf16);
    const Way best = [] {
        const std::vector<Way> all = ways();
        return find_kernels("AMX") || find_kernels("AVX512_BF16") ? all.front() : all[1];
    }();
    INFO(best.name);
    const Way by_gemm{"gemm", cpu::gemm<float>, best.sum};
    const Operands test(65, 70, 300, false, true);
    const std::vector<float> want = test.run(best);
    CHECK(test.run(by_gemm) == want);
    cpu::reserve_gemm(test.g);

    Gemm<float> one = test.g;
    std::vector<float> c(want.size());
    one.a = test.a.data(), one.b = test.b.data(), one.c = c.data();
    one.m = 13;
    const int64_t rows = 13;
    cpu::gemm_batched(one,
                      {.count = 5, .stride_a = rows * one.lda, .stride_b = 0, .stride_c = rows * one.ldc});
    CHECK(c == want);

    Operands square(257, 257, 90, false, true);
    square.b = square.a;
    std::vector<float> symmetric = square.run({"symmetric", cpu::gemm_symmetric<float>, best.sum});
    const std::vector<float> whole = square.run(best);
    bool mirrored = true;
    for (size_t i = 0; i < 257; ++i)
        for (size_t j = 0; j < 257; ++j)
            mirrored = mirrored && symmetric[i * 257 + j] == whole[std::max(i, j) * 257 + std::min(i, j)];
    CHECK(mirrored);

    const double x[2] = {1 + 1e-12, 1}, y[2] = {1, 1};
    double z = 0;
    cpu::gemm<double>({.m = 1, .n = 1, .k = 2, .a = x, .lda = 2, .b = y, .ldb = 1, .c = &z, .ldc = 1});
    CHECK(z == 2 + 1e-12);
}

TEST_CASE("bf16: a product is as near to float32's as rounded operands allow") {
    const Operands test(60, 70, 512, false, true);
    const Way exact{"float32", [](const Gemm<float>& g) { cpu::gemm(g); }, chain};
    const std::vector<float> want = test.run(exact);
    for (const Way& way : ways()) {
        const std::vector<float> got = test.run(way);
        double error = 0, size = 0;
        for (size_t i = 0; i < got.size(); ++i) {
            error += std::pow(double{got[i]} - want[i], 2);
            size += std::pow(double{want[i]}, 2);
        }
        INFO(way.name);
        // Two roundings of relative size 2^-9 at most, uniform in the mantissa: about 2^-9 / sqrt(3) of each
        // product, and products add like noise.
        CHECK(std::sqrt(error / size) < 0.0035);
        CHECK(std::sqrt(error / size) > 0.0005);  // they are rounded
    }
}

TEST_CASE("bf16: gemm's name says how it is computed") {
    CHECK(cpu::gemm_backend().find("bf16") == std::string::npos);
    const PrecisionScope bf16(Precision::bf16);
    CHECK(cpu::gemm_backend() == "own kernels, bf16 by " + cpu::bf16_products().by);
}
