#include "framework/ops/dense_attention/dense_attention.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "tests/support/attention_testing.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

using Case = AttentionCase;

Attend dense(double scale) {
    return [scale](const Tensor& q, const Tensor& k, const Tensor& v) {
        return dense_attention(q, k, v, scale);
    };
}

AttentionGradients run(const AttentionInputs& in, double scale) {
    return run_attention(in, dense(scale));
}

bool everything(int64_t, int64_t, int64_t) {
    return true;
}

}  // namespace

TEST_CASE("dense_attention: values and gradients against the materialised oracle") {
    const Case cases[] = {{1, 1, 1, 0, 4, 4},     {0, 2, 1, 3, 4, 4},   {2, 2, 2, 1, 3, 5},
                          {1, 2, 1, 2, 1, 1},     {2, 4, 2, 5, 7, 3},   {1, 3, 3, 7, 8, 8},
                          {2, 2, 2, 31, 16, 9},   {1, 4, 1, 33, 5, 32}, {1, 6, 2, 65, 32, 17},
                          {1, 2, 2, 130, 33, 31}, {1, 1, 1, 600, 8, 8}};
    for (const Case& c : cases) {
        INFO(name_of(c));
        const AttentionInputs in = attention_inputs(c);
        check_close(run(in, 0.7), attention_oracle(in, 0.7, everything), 1e-12);
    }
}

TEST_CASE("dense_attention: gradients by finite differences") {
    for (const int64_t T : {0, 1, 2, 5, 7, 31, 33}) {
        for (const int64_t dim : {1, 3, 4}) {
            const Case c{T < 8 ? 2 : 1, 2, T % 2 ? 1 : 2, T, dim, dim == 3 ? 2 : dim};
            const AttentionInputs in = attention_inputs(c);
            check_gradients(
                name_of(c),
                [](const std::vector<Tensor>& x) {
                    return std::vector<Tensor>{dense_attention(x[0], x[1], x[2], 0.8).out};
                },
                {in.q.set_requires_grad(true), in.k.set_requires_grad(true), in.v.set_requires_grad(true)});
        }
    }
}

TEST_CASE("dense_attention: float32 against float64") {
    for (const Case& c : {Case{2, 4, 2, 65, 7, 5}, Case{1, 2, 2, 300, 32, 32}, Case{1, 1, 1, 128, 100, 36}}) {
        INFO(name_of(c));
        const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
        const AttentionInputs in = attention_inputs(c, DType::float32);
        check_close(run(in, scale), attention_oracle(in, scale, everything), 3e-6);
    }
}

TEST_CASE("dense_attention: scores far apart neither overflow nor lose the largest key") {
    const Case c{1, 1, 1, 70, 4, 4};
    AttentionInputs in = attention_inputs(c, DType::float32);
    const AttentionGradients y = run(in, 1000.0);
    for (const Tensor& x : {y.out, y.lse, y.dq, y.dk, y.dv})
        for (const float value : x.to_vector<float>()) CHECK(std::isfinite(value));
    const Tensor zero = Tensor::zeros({1, 1, 70, 4});
    const Tensor same = dense_attention(zero, zero, Tensor::full({1, 1, 70, 4}, 3.0), 1.0).out;
    CHECK(max_abs_difference(same, Tensor::full(same.shape(), 3.0)) < 1e-5);
}

TEST_CASE("dense_attention: a row's bits depend neither on later rows nor on T") {
    for (const DType dtype : {DType::float32, DType::float64}) {
        const Case c{2, 2, 1, 150, 20, 12};
        const AttentionInputs in = attention_inputs(c, dtype);
        const AttentionOutput whole = dense_attention(in.q, in.k, in.v, 0.3);
        for (const int64_t T : {1, 2, 31, 32, 33, 63, 64, 65, 100, 149}) {
            INFO("T " << T);
            const AttentionOutput cut = dense_attention(first_along(in.q, 2, T), first_along(in.k, 2, T),
                                                        first_along(in.v, 2, T), 0.3);
            CHECK(bit_identical(cut.out, first_along(whole.out, 1, T)));
            CHECK(bit_identical(cut.lse, first_along(whole.lse, 2, T)));
        }
        const AttentionInputs other = attention_inputs({2, 2, 1, 150, 20, 12}, dtype);
        for (const Tensor& x : {other.q, other.k, other.v})
            for (int64_t i = 0; i < x.dim(0) * x.dim(1); ++i)
                x.alias({x.dim(0) * x.dim(1), 150, x.dim(3)})
                    .rows(i, i + 1)
                    .alias({150, x.dim(3)})
                    .rows(70, 150)
                    .fill(9);
        const AttentionOutput changed = dense_attention(other.q, other.k, other.v, 0.3);
        CHECK(bit_identical(first_along(changed.out, 1, 70), first_along(whole.out, 1, 70)));
        CHECK(bit_identical(first_along(changed.lse, 2, 70), first_along(whole.lse, 2, 70)));
        CHECK(!bit_identical(changed.out, whole.out));
    }
}

TEST_CASE("dense_attention: a head's bits depend neither on other heads nor on its place in the batch") {
    const AttentionInputs in = attention_inputs({2, 2, 2, 77, 8, 8}, DType::float32);
    const AttentionOutput whole = dense_attention(in.q, in.k, in.v, 0.3);
    const auto second_head = [](const Tensor& x) { return x.alias({4, 1, 77, 8}).rows(3, 4).clone(); };
    const AttentionOutput alone =
        dense_attention(second_head(in.q), second_head(in.k), second_head(in.v), 0.3);
    CHECK(bit_identical(alone.lse, whole.lse.alias({4, 1, 77}).rows(3, 4).clone()));
    for (int64_t t = 0; t < 77; ++t)
        for (int64_t j = 0; j < 8; ++j)
            CHECK(alone.out.data<float>()[t * 8 + j] == whole.out.data<float>()[((77 + t) * 2 + 1) * 8 + j]);
}

TEST_CASE("dense_attention: bits repeat, for any number of threads") {
    const int threads = thread_count();
    for (const Case& c : {Case{2, 4, 2, 70, 9, 5}, Case{1, 2, 1, 1100, 8, 8}}) {
        const AttentionInputs in = attention_inputs(c, DType::float32);
        set_thread_count(1);
        const AttentionGradients one = run(in, 0.4);
        set_thread_count(2);
        CHECK(bit_identical(one, run(in, 0.4)));
        set_thread_count(3);
        CHECK(bit_identical(one, run(in, 0.4)));
        set_thread_count(threads);
        CHECK(bit_identical(one, run(in, 0.4)));
    }
}

TEST_CASE("dense_attention: no buffer grows with T x T") {
    const int64_t T = 4096, dim = 8;
    const AttentionInputs in = attention_inputs({1, 1, 1, T, dim, dim}, DType::float32);
    const int64_t before = memory_stats().live_bytes;
    reset_peak_memory();
    run(in, 0.3);
    // Clones, out, lse, gradients and padded sums: a few dozen tensors of [T, dim]; T x T would be 64 MiB.
    CHECK(memory_stats().peak_bytes - before < 40 * T * dim * 4);
}

TEST_CASE("dense_attention: gradients only for what asks for them, none through lse") {
    const AttentionInputs in = attention_inputs({1, 1, 1, 3, 2, 2});
    in.k.set_requires_grad(true);
    const AttentionOutput y = dense_attention(in.q, in.k, in.v, 1.0);
    CHECK(y.out.requires_grad());
    CHECK(!y.lse.requires_grad());
    backward({y.out}, {in.dout});
    CHECK(in.k.grad().defined());
    CHECK(!in.q.grad().defined());
    CHECK(!in.v.grad().defined());
}

TEST_CASE("dense_attention: errors") {
    const auto attend = [](const Shape& q, const Shape& k, const Shape& v, DType v_dtype = DType::float32) {
        return [=] { dense_attention(Tensor::zeros(q), Tensor::zeros(k), Tensor::zeros(v, v_dtype), 1.0); };
    };
    check_error("dense_attention: q is [2,3,4], want 4 dims", attend({2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}));
    check_error("dense_attention: k is [1,2,4,4], want [1,2,3,4], to fit q [1,2,3,4]",
                attend({1, 2, 3, 4}, {1, 2, 4, 4}, {1, 2, 4, 4}));
    check_error("dense_attention: v is [1,1,3,4], want [1,2,3,4], to fit q [1,2,3,4]",
                attend({1, 2, 3, 4}, {1, 2, 3, 4}, {1, 1, 3, 4}));
    check_error("dense_attention: q has 3 heads, want a multiple of the 2 of k",
                attend({1, 3, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}));
    check_error("dense_attention: v is float64, want float32",
                attend({1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, DType::float64));
    check_error("dense_attention: the heads of q [1,1,3,0] and v [1,1,3,4] want a last dim of at least 1",
                attend({1, 1, 3, 0}, {1, 1, 3, 0}, {1, 1, 3, 4}));
}
