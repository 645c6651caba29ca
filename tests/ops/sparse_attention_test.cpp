#include "framework/ops/sparse_attention/sparse_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/threads.h"
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

std::function<bool(int64_t, int64_t, int64_t)> members(const Selection& s) {
    return [s](int64_t b, int64_t t, int64_t key) {
        const int64_t row = b * s.counts.dim(1) + t;
        const int32_t* first = s.indices.data<int32_t>() + row * s.indices.dim(2);
        return std::binary_search(first, first + s.counts.data<int32_t>()[row], key);
    };
}

AttentionGradients run(const AttentionInputs& in, const Selection& s, double scale, SparseMethod method) {
    return run_attention(in, [&](const Tensor& q, const Tensor& k, const Tensor& v) {
        return sparse_attention(q, k, v, s, scale, method);
    });
}

}  // namespace

TEST_CASE("sparse_attention: values and gradients against the materialised oracle") {
    const Case cases[] = {{1, 1, 1, 0, 4, 4},     {0, 2, 1, 3, 4, 4},   {2, 2, 2, 1, 3, 5},
                          {1, 2, 1, 2, 1, 1},     {2, 4, 2, 5, 7, 3},   {1, 3, 3, 7, 8, 8},
                          {2, 2, 2, 31, 16, 9},   {1, 4, 1, 33, 5, 32}, {1, 6, 2, 65, 32, 17},
                          {1, 2, 2, 130, 33, 47}, {1, 1, 1, 600, 8, 8}, {16, 4, 4, 40, 8, 8}};
    for (const Case& c : cases)
        for (const int64_t k : {1, 3, 17, 64, 1000})
            for (const SparseMethod method : methods) {
                INFO(testing::name_of(c) << " k " << k << " " << name_of(method));
                const AttentionInputs in = attention_inputs(c);
                const Selection s = random_selection(c.B, c.T, k, 6);
                check_close(run(in, s, 0.7, method), attention_oracle(in, 0.7, members(s)), 1e-12);
            }
}

TEST_CASE("sparse_attention: gradients by finite differences") {
    for (const int64_t T : {1, 2, 5, 7, 33})
        for (const int64_t k : {1, 4, 40})
            for (const SparseMethod method : methods) {
                const Case c{T < 8 ? 2 : 1, 2, T % 2 ? 1 : 2, T, 3, 2};
                const AttentionInputs in = attention_inputs(c);
                const Selection s = random_selection(c.B, T, k, 7);
                check_gradients(
                    testing::name_of(c) + " k " + std::to_string(k) + " " + name_of(method),
                    [&](const std::vector<Tensor>& x) {
                        return std::vector<Tensor>{sparse_attention(x[0], x[1], x[2], s, 0.8, method).out};
                    },
                    {in.q.set_requires_grad(true), in.k.set_requires_grad(true),
                     in.v.set_requires_grad(true)});
            }
}

TEST_CASE("sparse_attention: rows without keys give 0, -inf and no gradient") {
    for (const SparseMethod method : methods)
        for (const auto& count_of :
             {std::function<int64_t(int64_t)>([](int64_t t) { return t % 3 ? 0 : 4; }),
              std::function<int64_t(int64_t)>([](int64_t) { return 0; }),
              std::function<int64_t(int64_t)>([](int64_t t) { return t < 64 ? 0 : 9; })}) {
            INFO(name_of(method));
            const AttentionInputs in = attention_inputs({2, 2, 1, 80, 5, 6});
            const Selection s = random_selection(2, 80, 9, 8, count_of);
            const AttentionGradients y = run(in, s, 0.5, method);
            check_close(y, attention_oracle(in, 0.5, members(s)), 1e-12);
            for (int64_t i = 0; i < 2 * 2 * 80; ++i) {
                if (s.counts.data<int32_t>()[i / 160 * 80 + i % 80]) continue;
                CHECK(y.lse.data<double>()[i] == -std::numeric_limits<double>::infinity());
                for (int64_t j = 0; j < 5; ++j) CHECK(y.dq.data<double>()[i * 5 + j] == 0);
            }
        }
}

TEST_CASE("sparse_attention: float32 against float64") {
    for (const Case& c : {Case{2, 4, 2, 65, 7, 5}, Case{1, 2, 2, 300, 32, 32}})
        for (const int64_t k : {5, 64, 300})
            for (const SparseMethod method : methods) {
                INFO(testing::name_of(c) << " k " << k << " " << name_of(method));
                const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
                const AttentionInputs in = attention_inputs(c, DType::float32);
                const Selection s = random_selection(c.B, c.T, k, 9);
                check_close(run(in, s, scale, method), attention_oracle(in, scale, members(s)), 3e-6);
            }
}

TEST_CASE("sparse_attention: k >= T is dense attention") {
    for (const DType dtype : {DType::float32, DType::float64})
        for (const Case& c : {Case{2, 4, 2, 5, 7, 3}, Case{1, 2, 2, 64, 8, 8}, Case{16, 2, 2, 100, 33, 20},
                              Case{1, 1, 1, 600, 8, 8}}) {
            INFO(testing::name_of(c));
            const AttentionInputs in = attention_inputs(c, dtype);
            const AttentionGradients dense =
                run_attention(in, [](const Tensor& q, const Tensor& k, const Tensor& v) {
                    return dense_attention(q, k, v, 0.3);
                });
            for (const int64_t k : {c.T, c.T + 7}) {
                const Selection s = random_selection(c.B, c.T, k, 10);
                CHECK(bit_identical(run(in, s, 0.3, SparseMethod::masked_tiles), dense));
                CHECK(bit_identical(run(in, s, 0.3, SparseMethod::automatic), dense));
                const AttentionGradients gathered = run(in, s, 0.3, SparseMethod::gathered);
                const double tolerance = dtype == DType::float32 ? 2e-6 : 1e-13;
                CHECK(relative_difference(gathered.out, dense.out) < tolerance);
                CHECK(relative_difference(gathered.dq, dense.dq) < tolerance);
                CHECK(relative_difference(gathered.dk, dense.dk) < tolerance);
                CHECK(relative_difference(gathered.dv, dense.dv) < tolerance);
            }
        }
}

TEST_CASE(
    "sparse_attention: a row's bits depend neither on later rows, nor on T, nor on its neighbours' keys") {
    for (const SparseMethod method : methods)
        for (const DType dtype : {DType::float32, DType::float64}) {
            const AttentionInputs in = attention_inputs({2, 2, 1, 150, 20, 12}, dtype);
            const Selection s = random_selection(2, 150, 20, 11);
            const AttentionOutput whole = sparse_attention(in.q, in.k, in.v, s, 0.3, method);
            for (const int64_t T : {31, 32, 33, 63, 64, 65, 100, 149}) {
                INFO(name_of(method) << " T " << T);
                const AttentionOutput cut = sparse_attention(
                    first_along(in.q, 2, T), first_along(in.k, 2, T), first_along(in.v, 2, T),
                    {first_along(s.indices, 1, T), first_along(s.counts, 1, T)}, 0.3, method);
                CHECK(bit_identical(cut.out, first_along(whole.out, 1, T)));
                CHECK(bit_identical(cut.lse, first_along(whole.lse, 2, T)));
            }
            // Other selections for the odd rows change nothing in the even ones.
            const Selection other{s.indices.clone(), s.counts.clone()};
            const Selection fresh = random_selection(2, 150, 20, 12);
            for (int64_t row = 1; row < 300; row += 2)
                std::copy_n(fresh.indices.data<int32_t>() + row * 20, 20,
                            other.indices.data<int32_t>() + row * 20);
            const AttentionOutput mixed = sparse_attention(in.q, in.k, in.v, other, 0.3, method);
            const Tensor pairs = whole.out.alias({150, 2, 24}), mixed_pairs = mixed.out.alias({150, 2, 24});
            CHECK(bit_identical(first_along(pairs, 1, 1), first_along(mixed_pairs, 1, 1)));
            CHECK(!bit_identical(pairs, mixed_pairs));
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

TEST_CASE("sparse_attention: no buffer grows with T x T") {
    const int64_t T = 4096, dim = 8;
    const AttentionInputs in = attention_inputs({1, 1, 1, T, dim, dim}, DType::float32);
    const Selection s = random_selection(1, T, 16, 14);
    for (const SparseMethod method : methods) {
        const int64_t before = memory_stats().live_bytes;
        reset_peak_memory();
        run(in, s, 0.3, method);
        // Copies, outputs, gradients, padded rows and sums: some dozen tensors of [T, dim]; T x T would be 64
        // MiB.
        CHECK(memory_stats().peak_bytes - before < 50 * T * dim * 4);
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
    check_error("sparse_attention: indices is [1,2,2], want [1,3,2], to fit q [1,1,3,2]",
                attend(ints({0, 0, 0, 1}, {1, 2, 2}), counts));
    check_error("sparse_attention: counts is [3,1], want [1,3], to fit q [1,1,3,2]",
                attend(indices, ints({1, 2, 2}, {3, 1})));
    check_error("sparse_attention: counts is float32, want int32", attend(indices, Tensor::zeros({1, 3})));
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
    check_error("sparse_attention: q is [2,3,4], want 4 dims", [&] {
        sparse_attention(Tensor::zeros({2, 3, 4}), q, q, {indices, counts}, 1.0);
    });
}
