#include "framework/ops/sparse_attention/sparse_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/core/vectors.h"
#include "tests/support/attention_testing.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

using Case = AttentionCase;
constexpr SparseMethod methods[] = {SparseMethod::gathered, SparseMethod::masked_tiles,
                                    SparseMethod::automatic};

std::string name_of(SparseMethod method) {
    if (method == SparseMethod::automatic) return "automatic";
    return method == SparseMethod::gathered ? "gathered" : "masked_tiles";
}

// min(k, t + 1) random keys a row, or `count_of(t)` when given.
Selection random_selection(int64_t B, int64_t T, int64_t k, uint64_t seed,
                           const std::function<int64_t(int64_t)>& count_of = {}) {
    const int64_t slots = std::min(k, T);
    const Selection s{Tensor::zeros({B, T, slots}, DType::int32), Tensor::zeros({B, T}, DType::int32)};
    for (int64_t row = 0; row < B * T; ++row) {
        const int64_t t = row % T, count = std::min({slots, t + 1, count_of ? count_of(t) : slots});
        std::vector<int32_t> keys(static_cast<size_t>(t + 1));
        std::iota(keys.begin(), keys.end(), 0);
        for (int64_t j = 0; j < count; ++j) {
            const uint32_t r = philox({seed, 5}, static_cast<uint64_t>(row * slots + j)).v[0];
            std::swap(keys[static_cast<size_t>(j)], keys[static_cast<size_t>(j + r % (t + 1 - j))]);
        }
        std::sort(keys.begin(), keys.begin() + count);
        std::copy_n(keys.begin(), count, s.indices.data<int32_t>() + row * slots);
        s.counts.data<int32_t>()[row] = static_cast<int32_t>(count);
    }
    return s;
}

Selection on(Device device, const Selection& s) {
    return {s.indices.to(device), s.counts.to(device)};
}

// `s` lies on the CPU.
std::function<bool(int64_t, int64_t, int64_t)> members(const Selection& s) {
    return [s](int64_t b, int64_t t, int64_t key) {
        const int64_t row = b * s.counts.dim(1) + t;
        const int32_t* first = s.indices.data<int32_t>() + row * s.indices.dim(2);
        return std::binary_search(first, first + s.counts.data<int32_t>()[row], key);
    };
}

AttentionGradients run(const AttentionInputs& in, const Selection& s, double scale, SparseMethod method) {
    const Selection there = on(in.q.device(), s);
    return run_attention(in, [&](const Tensor& q, const Tensor& k, const Tensor& v) {
        return sparse_attention(q, k, v, there, scale, method);
    });
}

// Heads of every width that kernels were compiled for, alone and in groups.
std::vector<Case> float_cases(Device device) {
    if (is_emulated(device))
        return {{1, 4, 2, 65, 7, 5},     {1, 1, 1, 70, 32, 64},   {1, 5, 1, 25, 65, 128},
                {1, 3, 1, 15, 255, 130}, {1, 2, 1, 10, 576, 512}, {1, 1, 1, 10, 769, 3}};
    return {{2, 4, 2, 65, 7, 5},     {1, 2, 2, 300, 32, 32},   {1, 2, 2, 170, 64, 64},
            {1, 5, 1, 145, 65, 128}, {1, 3, 1, 135, 255, 130}, {1, 2, 1, 120, 576, 512},
            {1, 20, 1, 90, 64, 64},  {1, 2, 1, 90, 769, 3},    {1, 1, 1, 90, 3, 800}};
}

void check_dense(const Case& c, DType dtype, Device device, double tolerance) {
    INFO(testing::name_of(c));
    const AttentionInputs in = attention_inputs(c, dtype, device);
    const AttentionGradients dense = run_attention(
        in, [](const Tensor& q, const Tensor& k, const Tensor& v) { return dense_attention(q, k, v, 0.3); });
    for (const int64_t k : {c.T, c.T + 7}) {
        if (is_emulated(device) && k > c.T) continue;
        const Selection s = random_selection(c.B, c.T, k, 10);
        CHECK(bit_identical(run(in, s, 0.3, SparseMethod::masked_tiles), dense));
        CHECK(bit_identical(run(in, s, 0.3, SparseMethod::automatic), dense));
        const AttentionGradients gathered = run(in, s, 0.3, SparseMethod::gathered);
        CHECK(relative_difference(gathered.out, dense.out) < tolerance);
        CHECK(relative_difference(gathered.dq, dense.dq) < tolerance);
        CHECK(relative_difference(gathered.dk, dense.dk) < tolerance);
        CHECK(relative_difference(gathered.dv, dense.dv) < tolerance);
    }
}

void check_causal(SparseMethod method, DType dtype, Device device, const std::vector<int64_t>& lengths) {
    const AttentionInputs in = attention_inputs({1, 2, 1, 150, 20, 12}, dtype, device);
    const Selection s = random_selection(1, 150, 20, 11);
    const AttentionOutput whole = sparse_attention(in.q, in.k, in.v, on(device, s), 0.3, method);
    for (const int64_t T : lengths) {
        INFO(name_of(method) << " T " << T);
        const AttentionOutput cut = sparse_attention(
            first_along(in.q, 2, T), first_along(in.k, 2, T), first_along(in.v, 2, T),
            on(device, {first_along(s.indices, 1, T), first_along(s.counts, 1, T)}), 0.3, method);
        CHECK(bit_identical(cut.out, first_along(whole.out, 1, T)));
        CHECK(bit_identical(cut.lse, first_along(whole.lse, 2, T)));
    }
    // Other selections for the odd rows change nothing in the even ones.
    const Selection other{s.indices.clone(), s.counts.clone()};
    const Selection fresh = random_selection(1, 150, 20, 12);
    for (int64_t row = 1; row < 150; row += 2)
        std::copy_n(fresh.indices.data<int32_t>() + row * 20, 20, other.indices.data<int32_t>() + row * 20);
    const AttentionOutput mixed = sparse_attention(in.q, in.k, in.v, on(device, other), 0.3, method);
    const Tensor rows = whole.out.to(Device{}).alias({150, 24}),
                 mixed_rows = mixed.out.to(Device{}).alias({150, 24});
    for (int64_t row = 0; row < 150; row += 2)
        CHECK(bit_identical(rows.rows(row, row + 1).clone(), mixed_rows.rows(row, row + 1).clone()));
    CHECK(!bit_identical(rows, mixed_rows));
}

}  // namespace

DEVICE_TEST_CASE("sparse_attention: values and gradients against the materialised oracle", device) {
    std::vector<Case> cases = {{1, 1, 1, 0, 4, 4},   {0, 2, 1, 3, 4, 4},   {2, 2, 2, 1, 3, 5},
                               {1, 2, 1, 2, 1, 1},   {2, 4, 2, 5, 7, 3},   {1, 3, 3, 7, 8, 8},
                               {2, 2, 2, 31, 16, 9}, {1, 4, 1, 33, 5, 32}, {1, 6, 2, 65, 32, 17},
                               {1, 1, 1, 40, 40, 3}};
    if (!is_emulated(device))
        for (const Case& c : {Case{1, 2, 2, 130, 33, 47}, Case{1, 1, 1, 600, 8, 8}, Case{16, 4, 4, 40, 8, 8}})
            cases.push_back(c);
    for (const Case& c : cases)
        for (const int64_t k : {1, 3, 17, 64, 1000})
            for (const SparseMethod method : methods) {
                if (is_emulated(device) && k != 17 && (k != 3 || c.T > 10)) continue;
                INFO(testing::name_of(c) << " k " << k << " " << name_of(method));
                const AttentionInputs in = attention_inputs(c, DType::float64, device);
                const Selection s = random_selection(c.B, c.T, k, 6);
                check_close(run(in, s, 0.7, method), attention_oracle(in, 0.7, members(s)), 1e-12);
            }
}

DEVICE_TEST_CASE("sparse_attention: gradients by finite differences", device) {
    for (const int64_t T : {1, 2, 5, 7, 33})
        for (const int64_t k : {1, 4, 40})
            for (const SparseMethod method : methods) {
                if (is_emulated(device) && (T != 5 || k != 4 || method == SparseMethod::automatic)) continue;
                const Case c{T < 8 ? 2 : 1, 2, T % 2 ? 1 : 2, T, 3, 2};
                const AttentionInputs in = attention_inputs(c);
                const Selection s = on(device, random_selection(c.B, T, k, 7));
                check_gradients(
                    testing::name_of(c) + " k " + std::to_string(k) + " " + name_of(method),
                    [&](const std::vector<Tensor>& x) {
                        return std::vector<Tensor>{sparse_attention(x[0], x[1], x[2], s, 0.8, method).out};
                    },
                    {in.q.set_requires_grad(true), in.k.set_requires_grad(true),
                     in.v.set_requires_grad(true)},
                    {.device = device});
            }
}

DEVICE_TEST_CASE("sparse_attention: rows without keys give 0, -inf and no gradient", device) {
    const std::function<int64_t(int64_t)> counts[] = {[](int64_t t) { return t % 3 ? 0 : 4; },
                                                      [](int64_t) { return 0; },
                                                      [](int64_t t) { return t < 64 ? 0 : 9; }};
    for (const PrecisionCase& precision : precisions_of(device))
        for (const DType dtype : {DType::float64, DType::float32})
            for (const SparseMethod method : methods)
                for (const auto& count_of : counts) {
                    if (dtype == DType::float64 && precision.precision != Precision::fp32) continue;
                    if (is_emulated(device) && method == SparseMethod::automatic) continue;
                    const PrecisionScope scope(precision.precision);
                    INFO(name_of(method) << " nmse " << precision.nmse);
                    const AttentionInputs in = attention_inputs({2, 2, 1, 70, 5, 6}, dtype, device);
                    const Selection s = random_selection(2, 70, 9, 8, count_of);
                    const AttentionGradients y = run(in, s, 0.5, method);
                    check_nmse(y, attention_oracle(in, 0.5, members(s)), precision.nmse);
                    const std::vector<double> lse = y.lse.to(DType::float64).to_vector<double>(),
                                              dq = y.dq.to(DType::float64).to_vector<double>(),
                                              out = y.out.to(DType::float64).to_vector<double>();
                    for (int64_t row = 0; row < 2 * 2 * 70; ++row) {
                        const int64_t b = row / 140, h = row / 70 % 2, t = row % 70;
                        if (s.counts.data<int32_t>()[b * 70 + t]) continue;
                        CHECK(lse[static_cast<size_t>(row)] == -std::numeric_limits<double>::infinity());
                        for (int64_t j = 0; j < 5; ++j) CHECK(dq[static_cast<size_t>(row * 5 + j)] == 0);
                        for (int64_t j = 0; j < 6; ++j)
                            CHECK(out[static_cast<size_t>(((b * 70 + t) * 2 + h) * 6 + j)] == 0);
                    }
                }
}

DEVICE_TEST_CASE("sparse_attention: float32 against float64", device) {
    for (const Case& c : float_cases(device))
        for (const int64_t k : {5, 64, 300})
            for (const SparseMethod method : methods) {
                if (is_emulated(device) && (k != 5 || method == SparseMethod::automatic)) continue;
                INFO(testing::name_of(c) << " k " << k << " " << name_of(method));
                const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
                const AttentionInputs in = attention_inputs(c, DType::float32, device);
                const Selection s = random_selection(c.B, c.T, k, 9);
                // Without AVX2 (and in sanitized builds) rows of 800 are summed in four long chains.
                const bool long_chains = device.is_cpu() && cpu::vector_bytes() == 16 && c.value_dim > 128;
                const double tolerance = long_chains ? 7.5e-6 : 3e-6;
                check_close(run(in, s, scale, method), attention_oracle(in, scale, members(s)), tolerance);
            }
}

DEVICE_TEST_CASE("sparse_attention: every precision agrees with float64, and repeats its bits", device) {
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        for (const Case& c : float_cases(device))
            for (const SparseMethod method : {SparseMethod::gathered, SparseMethod::masked_tiles}) {
                if (is_emulated(device) && c.dim > 32 && method != SparseMethod::gathered) continue;
                INFO(testing::name_of(c) << " " << name_of(method) << " nmse " << precision.nmse);
                const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
                const AttentionInputs in = attention_inputs(c, DType::float32, device);
                const Selection s = random_selection(c.B, c.T, 17, 9);
                const AttentionGradients y = run(in, s, scale, method);
                check_nmse(y, attention_oracle(in, scale, members(s)), precision.nmse);
                CHECK(bit_identical(y, run(in, s, scale, method)));
            }
    }
}

DEVICE_TEST_CASE("sparse_attention: k >= T is dense attention", device) {
    std::vector<Case> cases{{2, 4, 2, 5, 7, 3}, {1, 2, 1, 70, 33, 20}};
    if (!is_emulated(device)) {
        cases.push_back({1, 2, 2, 64, 8, 8});
        cases.push_back({16, 2, 2, 100, 33, 20});
        cases.push_back({1, 1, 1, 600, 8, 8});
    }
    for (const Case& c : cases) {
        check_dense(c, DType::float64, device, 1e-13);
        for (const PrecisionCase& precision : precisions_of(device)) {
            const PrecisionScope scope(precision.precision);
            check_dense(c, DType::float32, device, precision.precision == Precision::fp32 ? 2e-6 : 0.05);
        }
    }
}

DEVICE_TEST_CASE(
    "sparse_attention: a row's bits depend neither on later rows, nor on T, nor on its neighbours' keys",
    device) {
    std::vector<int64_t> lengths{31, 32, 33, 63, 64, 65, 100, 149};
    if (is_emulated(device)) lengths = {65};
    for (const SparseMethod method : methods) {
        check_causal(method, DType::float64, device, lengths);
        for (const PrecisionCase& precision : precisions_of(device)) {
            const PrecisionScope scope(precision.precision);
            check_causal(method, DType::float32, device, lengths);
        }
    }
}

// Beyond the first tile_keys * slots rows automatic gathers: some keys get gradients from both.
DEVICE_TEST_CASE("sparse_attention: tiles and gathered rows together", device) {
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        const Case c{1, 2, 1, 150, 8, 4};
        const AttentionInputs in = attention_inputs(c, DType::float32, device);
        const Selection s = random_selection(1, 150, 2, 15);
        const AttentionGradients y = run(in, s, 0.3, SparseMethod::automatic);
        check_nmse(y, attention_oracle(in, 0.3, members(s)), precision.nmse);
        CHECK(!bit_identical(y, run(in, s, 0.3, SparseMethod::gathered)));
        CHECK(!bit_identical(y, run(in, s, 0.3, SparseMethod::masked_tiles)));
    }
}

// Beyond 65,536 tokens the backward on the CPU keeps indices of 32 bits.
TEST_CASE("sparse_attention: each of 65,540 queries attends to the key before it") {
    const int64_t T = 65540;
    Selection s{Tensor::zeros(Shape{1, T, 1}, DType::int32), Tensor::zeros(Shape{1, T}, DType::int32)};
    const Tensor q = Tensor::zeros(Shape{1, 1, T, 1}, DType::float32);
    const Tensor v = Tensor::zeros(Shape{1, 1, T, 1}, DType::float32);
    const Tensor dout = Tensor::zeros(Shape{1, T, 1}, DType::float32);
    for (int64_t t = 0; t < T; ++t) {
        s.indices.data<int32_t>()[t] = static_cast<int32_t>(std::max<int64_t>(0, t - 1));
        s.counts.data<int32_t>()[t] = 1;
        v.data<float>()[t] = static_cast<float>(t);
        dout.data<float>()[t] = static_cast<float>(2 * t + 1);
    }
    v.set_requires_grad(true);
    const Tensor out = sparse_attention(q, q, v, s, 1.0, SparseMethod::gathered).out;
    backward(std::vector<Tensor>{out}, std::vector<Tensor>{dout});
    int64_t wrong = 0;
    for (int64_t t = 0; t < T; ++t) {
        const float sent = t == 0 ? 1 + 3 : t + 1 < T ? static_cast<float>(2 * t + 3) : 0;
        wrong += out.data<float>()[t] != static_cast<float>(std::max<int64_t>(0, t - 1));
        wrong += v.grad().data<float>()[t] != sent;
    }
    CHECK(wrong == 0);
}

// Wide heads: several passes of the forward, rows of many vectors in the backward.
TEST_CASE("sparse_attention: gathering in several passes") {
    for (const Case& c :
         {Case{1, 2, 1, 700, 1030, 9}, Case{1, 1, 1, 560, 5, 600}, Case{1, 2, 2, 2100, 64, 64}}) {
        INFO(testing::name_of(c));
        const AttentionInputs in = attention_inputs(c);
        // Short rows and empty ones: passes without a key, and a first pass that has to clear dq.
        const Selection s = random_selection(1, c.T, 90, 17, [](int64_t t) { return t % 7 * 15; });
        const AttentionGradients gathered = run(in, s, 0.1, SparseMethod::gathered);
        const AttentionGradients tiles = run(in, s, 0.1, SparseMethod::masked_tiles);
        CHECK(relative_difference(gathered.out, tiles.out) < 1e-12);
        CHECK(relative_difference(gathered.dq, tiles.dq) < 1e-11);
        CHECK(relative_difference(gathered.dk, tiles.dk) < 1e-11);
        CHECK(relative_difference(gathered.dv, tiles.dv) < 1e-11);
    }
}

TEST_CASE("sparse_attention: kept weights are the probabilities summed over heads") {
    const Case c{2, 4, 2, 150, 9, 5};
    const AttentionInputs in = attention_inputs(c);
    const Selection s = random_selection(c.B, c.T, 7, 18);
    for (const SparseMethod method : methods) {
        INFO(name_of(method));
        SelectedWeights weights;
        const AttentionOutput kept = sparse_attention(in.q, in.k, in.v, s, 0.3, method, &weights);
        CHECK(bit_identical(kept.out, sparse_attention(in.q, in.k, in.v, s, 0.3, method).out));
        CHECK(weights.sums.defined() == (method != SparseMethod::masked_tiles));
        if (!weights.sums.defined()) continue;
        CHECK(weights.first_row == (method == SparseMethod::gathered ? 0 : 32));
        for (int64_t b = 0; b < c.B; ++b)
            for (int64_t t = weights.first_row; t < c.T; ++t)
                for (int64_t i = 0; i < s.counts.data<int32_t>()[b * c.T + t]; ++i) {
                    const int64_t slot = (b * c.T + t) * 7 + i, key = s.indices.data<int32_t>()[slot];
                    double want = 0;
                    for (int64_t h = 0; h < c.H; ++h) {
                        const double* q = in.q.data<double>() + ((b * c.H + h) * c.T + t) * c.dim;
                        const double* k = in.k.data<double>() + ((b * c.G + h / 2) * c.T + key) * c.dim;
                        want += std::exp(0.3 * std::inner_product(q, q + c.dim, k, 0.0) -
                                         kept.lse.data<double>()[(b * c.H + h) * c.T + t]);
                    }
                    REQUIRE(weights.sums.data<double>()[slot] == doctest::Approx(want).epsilon(1e-12));
                }
    }
}

TEST_CASE("sparse_attention: bits repeat, for any number of threads") {
    const int threads = thread_count();
    for (const SparseMethod method : methods)
        for (const Case& c : {Case{2, 4, 2, 70, 9, 5}, Case{1, 2, 1, 1100, 8, 8}}) {
            const AttentionInputs in = attention_inputs(c, DType::float32);
            const Selection s = random_selection(c.B, c.T, 33, 13);
            set_thread_count(1);
            const AttentionGradients one = run(in, s, 0.4, method);
            for (const int other : {2, 3, threads}) {
                set_thread_count(other);
                CHECK(bit_identical(one, run(in, s, 0.4, method)));
            }
        }
}

DEVICE_TEST_CASE("sparse_attention: no buffer grows with T x T", device) {
    const int64_t T = is_emulated(device) ? 256 : 4096, dim = 8;
    const AttentionInputs in = attention_inputs({1, 1, 1, T, dim, dim}, DType::float32, device);
    const Selection s = random_selection(1, T, 16, 14);
    for (const SparseMethod method : methods) {
        const int64_t before = memory_stats(device).live_bytes;
        reset_peak_memory(device);
        run(in, s, 0.3, method);
        // Copies, outputs, gradients, padded rows, sums and lists: some dozen tensors of [T, dim]; T x T
        // would be T / 8 of them.
        CHECK(memory_stats(device).peak_bytes - before < 60 * T * dim * 4);
    }
}

DEVICE_TEST_CASE("sparse_attention: a broken selection on a device reads and writes nothing outside",
                 device) {
    if (device.is_cpu()) return;  // there it is an error
    const int64_t T = 70, slots = 40;
    const AttentionInputs in = attention_inputs({1, 2, 1, T, 8, 8}, DType::float32, device);
    Selection s = random_selection(1, T, slots, 16);
    const int32_t wild[] = {-1, 1 << 30, 69, -(1 << 30), 5};
    for (int64_t i = 0; i < s.indices.numel(); i += 3) s.indices.data<int32_t>()[i] = wild[i % 5];
    for (int64_t t = 0; t < T; t += 4) s.counts.data<int32_t>()[t] = wild[t % 5];
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        for (const SparseMethod method : methods)
            CHECK(run(in, s, 0.3, method).out.to_vector<float>().size() == T * 16);
    }
}

TEST_CASE("sparse_attention: errors") {
    const Tensor q = Tensor::zeros({1, 1, 3, 2});
    const auto attend = [&](const Tensor& indices, const Tensor& counts) {
        return [=] { sparse_attention(q, q, q, {indices, counts}, 1.0); };
    };
    const auto ints = [](const std::vector<int32_t>& values, const Shape& shape) {
        return Tensor::from(values, shape);
    };
    const Tensor counts = ints({1, 2, 2}, {1, 3}), indices = ints({0, 0, 0, 1, 0, 2}, {1, 3, 2});
    attend(indices, counts)();
    check_error("sparse_attention: the selection's indices is [1,2,2], want [1,3,2], a row for each query",
                attend(ints({0, 0, 0, 1}, {1, 2, 2}), counts));
    check_error("sparse_attention: the selection's counts is [3,1], want [1,3], a row for each query",
                attend(indices, ints({1, 2, 2}, {3, 1})));
    check_error("sparse_attention: the selection's counts is float32, want int32",
                attend(indices, Tensor::zeros({1, 3})));
    check_error("sparse_attention: row [0,0] selects 2 keys, want 0 to 1",
                attend(indices, ints({2, 2, 2}, {1, 3})));
    check_error("sparse_attention: row [0,2] selects 3 keys, want 0 to 2",
                attend(indices, ints({1, 2, 3}, {1, 3})));
    check_error("sparse_attention: row [0,2] selects -1 keys, want 0 to 2",
                attend(indices, ints({1, 2, -1}, {1, 3})));
    check_error("sparse_attention: row [0,1] selects key 2, want 0 to 1",
                attend(ints({0, 0, 0, 2, 0, 2}, {1, 3, 2}), counts));
    check_error("sparse_attention: row [0,1] selects key -1, want 0 to 1",
                attend(ints({0, 0, -1, 1, 0, 2}, {1, 3, 2}), counts));
    check_error("sparse_attention: row [0,2] selects key 0 after key 2, want them ascending",
                attend(ints({0, 0, 0, 1, 2, 0}, {1, 3, 2}), counts));
    check_error("sparse_attention: row [0,2] selects key 7, want 0 to 2",
                attend(ints({0, 0, 0, 0, 1, 0, 0, 7, 2}, {1, 3, 3}), ints({1, 2, 3}, {1, 3})));
    check_error("sparse_attention: q is [2,3,4], want 4 dims", [&] {
        sparse_attention(Tensor::zeros({2, 3, 4}), q, q, {indices, counts}, 1.0);
    });
}
