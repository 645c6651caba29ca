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

// Heads of every width that kernels were compiled for, one past it, and MLA's on a GPU.
std::vector<Case> float_cases(Device device) {
    if (is_emulated(device))
        return {{2, 4, 2, 65, 7, 5}, {1, 2, 1, 66, 64, 33}, {1, 1, 1, 70, 65, 128}, {1, 1, 1, 66, 129, 3}};
    return {{2, 4, 2, 65, 7, 5},    {1, 2, 2, 300, 32, 32},  {1, 1, 1, 128, 100, 36},
            {1, 3, 3, 257, 64, 64}, {1, 2, 1, 191, 64, 33},  {1, 1, 1, 70, 65, 128},
            {1, 2, 2, 66, 129, 3},  {1, 16, 2, 127, 16, 16}, {1, 4, 1, 130, 576, 512}};
}

// Rows 70 and later of every head become 9.
Tensor changed_later_rows(const Tensor& x) {
    const Tensor y = x.to(Device{}).clone();
    const int64_t heads = y.dim(0) * y.dim(1), length = y.dim(2);
    for (int64_t i = 0; i < heads; ++i)
        y.alias({heads * length, y.dim(3)}).rows(i * length + 70, (i + 1) * length).fill(9);
    return y.to(x.device());
}

void check_causal(const Case& c, DType dtype, Device device, const std::vector<int64_t>& lengths) {
    const AttentionInputs in = attention_inputs(c, dtype, device);
    const AttentionOutput whole = dense_attention(in.q, in.k, in.v, 0.3);
    for (const int64_t T : lengths) {
        INFO("T " << T);
        const AttentionOutput cut =
            dense_attention(first_along(in.q, 2, T), first_along(in.k, 2, T), first_along(in.v, 2, T), 0.3);
        CHECK(bit_identical(cut.out, first_along(whole.out, 1, T)));
        CHECK(bit_identical(cut.lse, first_along(whole.lse, 2, T)));
    }
    const AttentionOutput changed =
        dense_attention(changed_later_rows(in.q), changed_later_rows(in.k), changed_later_rows(in.v), 0.3);
    CHECK(bit_identical(first_along(changed.out, 1, 70), first_along(whole.out, 1, 70)));
    CHECK(bit_identical(first_along(changed.lse, 2, 70), first_along(whole.lse, 2, 70)));
    CHECK(!bit_identical(changed.out, whole.out));
}

}  // namespace

DEVICE_TEST_CASE("dense_attention: values and gradients against the materialised oracle", device) {
    std::vector<Case> cases = {{1, 1, 1, 0, 4, 4},   {0, 2, 1, 3, 4, 4},   {2, 2, 2, 1, 3, 5},
                               {1, 2, 1, 2, 1, 1},   {2, 4, 2, 5, 7, 3},   {1, 3, 3, 7, 8, 8},
                               {2, 2, 2, 31, 16, 9}, {1, 4, 1, 33, 5, 32}, {1, 6, 2, 65, 32, 17},
                               {1, 1, 1, 40, 70, 3}};
    if (!is_emulated(device)) {
        cases.push_back({1, 2, 2, 130, 33, 31});
        cases.push_back({1, 1, 1, 600, 8, 8});
    }
    for (const Case& c : cases) {
        INFO(name_of(c));
        const AttentionInputs in = attention_inputs(c, DType::float64, device);
        check_close(run(in, 0.7), attention_oracle(in, 0.7, everything), 1e-12);
    }
}

DEVICE_TEST_CASE("dense_attention: gradients by finite differences", device) {
    for (const int64_t T : {0, 1, 2, 5, 7, 31, 33}) {
        for (const int64_t dim : {1, 3, 4}) {
            if (is_emulated(device) && ((T != 2 && T != 5) || dim != 3)) continue;
            const Case c{T < 8 ? 2 : 1, 2, T % 2 ? 1 : 2, T, dim, dim == 3 ? 2 : dim};
            const AttentionInputs in = attention_inputs(c);
            check_gradients(
                name_of(c),
                [](const std::vector<Tensor>& x) {
                    return std::vector<Tensor>{dense_attention(x[0], x[1], x[2], 0.8).out};
                },
                {in.q.set_requires_grad(true), in.k.set_requires_grad(true), in.v.set_requires_grad(true)},
                {.device = device});
        }
    }
}

DEVICE_TEST_CASE("dense_attention: float32 against float64", device) {
    for (const Case& c : float_cases(device)) {
        INFO(name_of(c));
        const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
        const AttentionInputs in = attention_inputs(c, DType::float32, device);
        check_close(run(in, scale), attention_oracle(in, scale, everything), 3e-6);
    }
}

DEVICE_TEST_CASE("dense_attention: every precision agrees with float64, and repeats its bits", device) {
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        for (const Case& c : float_cases(device)) {
            if (is_emulated(device) && (c.dim > 128 || (c.dim > 64 && precision.nmse < 1e-3))) continue;
            INFO(name_of(c) << " nmse " << precision.nmse);
            const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
            const AttentionInputs in = attention_inputs(c, DType::float32, device);
            const AttentionGradients y = run(in, scale);
            check_nmse(y, attention_oracle(in, scale, everything), precision.nmse);
            CHECK(bit_identical(y, run(in, scale)));
        }
    }
}

DEVICE_TEST_CASE("dense_attention: scores far apart neither overflow nor lose the largest key", device) {
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        const Case c{1, 1, 1, 70, 4, 4};
        const AttentionInputs in = attention_inputs(c, DType::float32, device);
        const AttentionGradients y = run(in, 1000.0);
        for (const Tensor& x : {y.out, y.lse, y.dq, y.dk, y.dv})
            for (const float value : x.to_vector<float>()) CHECK(std::isfinite(value));
        const Tensor zero = Tensor::zeros({1, 1, 70, 4}, DType::float32, device);
        const Tensor threes = Tensor::full({1, 1, 70, 4}, 3.0, DType::float32, device);
        const Tensor same = dense_attention(zero, zero, threes, 1.0).out;
        CHECK(max_abs_difference(same, Tensor::full(same.shape(), 3.0)) < 1e-5);
    }
}

DEVICE_TEST_CASE("dense_attention: a row's bits depend neither on later rows nor on T", device) {
    std::vector<int64_t> lengths{1, 2, 31, 32, 33, 63, 64, 65, 100, 149};
    if (is_emulated(device)) lengths = {1, 65};
    check_causal({1, 2, 1, 150, 20, 12}, DType::float64, device, lengths);
    check_causal({1, 1, 1, 150, 130, 12}, DType::float32, device, {65});
    for (const PrecisionCase& precision : precisions_of(device)) {
        const PrecisionScope scope(precision.precision);
        check_causal({1, 2, 1, 150, 20, 12}, DType::float32, device, lengths);
    }
}

DEVICE_TEST_CASE("dense_attention: a head's bits depend neither on other heads nor on its place in the batch",
                 device) {
    const AttentionInputs in = attention_inputs({2, 2, 2, 77, 8, 8}, DType::float32);
    const auto attend = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
        const AttentionOutput y = dense_attention(q.to(device), k.to(device), v.to(device), 0.3);
        return AttentionOutput{y.out.to(Device{}), y.lse.to(Device{})};
    };
    const AttentionOutput whole = attend(in.q, in.k, in.v);
    const auto second_head = [](const Tensor& x) { return x.alias({4, 1, 77, 8}).rows(3, 4).clone(); };
    const AttentionOutput alone = attend(second_head(in.q), second_head(in.k), second_head(in.v));
    CHECK(bit_identical(alone.lse, whole.lse.alias({4, 1, 77}).rows(3, 4).clone()));
    for (int64_t t = 0; t < 77; ++t)
        for (int64_t j = 0; j < 8; ++j)
            CHECK(alone.out.data<float>()[t * 8 + j] == whole.out.data<float>()[((77 + t) * 2 + 1) * 8 + j]);
}

// So many heads give each warp of the tensor cores two tiles of rows, one head gives it one.
DEVICE_TEST_CASE("dense_attention: a head's bits do not depend on how many rows a warp has", device) {
    if (device.is_cpu()) return;
    const PrecisionScope scope(Precision::bf16);
    const int64_t H = 132, T = 129;
    const AttentionInputs in = attention_inputs({1, H, 1, T, 4, 4}, DType::float32);
    const AttentionOutput whole = dense_attention(in.q.to(device), in.k.to(device), in.v.to(device), 0.3);
    const Tensor last = in.q.alias({H, 1, T, 4}).rows(H - 1, H).clone();
    const AttentionOutput alone = dense_attention(last.to(device), in.k.to(device), in.v.to(device), 0.3);
    CHECK(bit_identical(alone.lse.to(Device{}),
                        whole.lse.to(Device{}).alias({H, 1, T}).rows(H - 1, H).clone()));
    const std::vector<float> all = whole.out.to_vector<float>(), own = alone.out.to_vector<float>();
    for (size_t t = 0; t < T; ++t)
        for (size_t j = 0; j < 4; ++j) CHECK(own[t * 4 + j] == all[(t * H + H - 1) * 4 + j]);
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

DEVICE_TEST_CASE("dense_attention: no buffer grows with T x T", device) {
    const int64_t T = is_emulated(device) ? 512 : 4096, dim = 8;
    const AttentionInputs in = attention_inputs({1, 1, 1, T, dim, dim}, DType::float32, device);
    const int64_t before = memory_stats(device).live_bytes;
    reset_peak_memory(device);
    run(in, 0.3);
    // Clones, out, lse, gradients and padded rows: a few dozen tensors of [T, dim]; T x T would be T / 8 of
    // them.
    CHECK(memory_stats(device).peak_bytes - before < 40 * T * dim * 4);
}

DEVICE_TEST_CASE("dense_attention: gradients only for what asks for them, none through lse", device) {
    const AttentionInputs in = attention_inputs({1, 1, 1, 3, 2, 2}, DType::float64, device);
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
