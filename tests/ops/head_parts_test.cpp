#include "framework/ops/head_parts/head_parts.h"

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("split_last: both parts, any rank, either part empty") {
    const Tensor x = random_normal({2, 3, 5}, 1);
    for (const int64_t n : {0, 1, 3, 5}) {
        const SplitRows parts = split_last(x, n);
        REQUIRE(parts.first.shape() == Shape{2, 3, n});
        REQUIRE(parts.rest.shape() == Shape{2, 3, 5 - n});
        for (int64_t row = 0; row < 6; ++row)
            for (int64_t j = 0; j < 5; ++j)
                CHECK((j < n ? parts.first.data<double>()[row * n + j]
                             : parts.rest.data<double>()[row * (5 - n) + j - n]) ==
                      x.data<double>()[row * 5 + j]);
    }
    CHECK(split_last(random_normal({4}, 2), 1).rest.shape() == Shape{3});
    CHECK(split_last(Tensor::zeros({0, 4}), 1).rest.shape() == Shape{0, 3});
}

TEST_CASE("split_last: gradients of one part, of the other and of both") {
    for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 33}, Shape{0, 4}})
        for (const int64_t n : {int64_t{0}, int64_t{1}, shape.dim(-1)})
            for (const int which : {1, 2, 3})
                check_gradients("split " + to_string(shape) + " at " + std::to_string(n) + " outputs " +
                                    std::to_string(which),
                                [&](const std::vector<Tensor>& in) {
                                    const SplitRows parts = split_last(in[0], n);
                                    std::vector<Tensor> out;
                                    if (which & 1) out.push_back(parts.first);
                                    if (which & 2) out.push_back(parts.rest);
                                    return out;
                                },
                                {random_normal(shape, 3).set_requires_grad(true)});
}

TEST_CASE("join_heads: parts side by side, heads outside tokens, on one and two threads") {
    const int threads = thread_count();
    for (const auto& [B, T, H, m, n] : std::vector<std::array<int64_t, 5>>{
             {1, 1, 1, 1, 1}, {2, 3, 5, 4, 7}, {2, 33, 1, 31, 2}, {3, 2, 2, 0, 3}, {0, 2, 2, 2, 3}}) {
        const Tensor a = random_normal({B, T, H, m}, 4), c = random_normal({B, T, H, n}, 5);
        set_thread_count(1);
        const Tensor y = join_heads(a, c);
        set_thread_count(2);
        CHECK(bit_identical(y, join_heads(a, c)));
        REQUIRE(y.shape() == Shape{B, H, T, m + n});
        for (int64_t b = 0; b < B; ++b)
            for (int64_t t = 0; t < T; ++t)
                for (int64_t h = 0; h < H; ++h)
                    for (int64_t j = 0; j < m + n; ++j) {
                        const int64_t row = (b * T + t) * H + h;
                        CHECK(y.data<double>()[((b * H + h) * T + t) * (m + n) + j] ==
                              (j < m ? a.data<double>()[row * m + j] : c.data<double>()[row * n + j - m]));
                    }
    }
    set_thread_count(threads);
}

TEST_CASE("join_heads: gradients") {
    for (const auto& [B, T, H, m, n] : std::vector<std::array<int64_t, 5>>{
             {1, 1, 1, 1, 1}, {2, 3, 5, 4, 7}, {1, 7, 1, 5, 2}, {2, 2, 3, 0, 3}})
        check_gradients(
            "join",
            [](const std::vector<Tensor>& in) { return std::vector<Tensor>{join_heads(in[0], in[1])}; },
            {random_normal({B, T, H, m}, 6).set_requires_grad(true),
             random_normal({B, T, H, n}, 7).set_requires_grad(true)});
}

TEST_CASE("head_parts: errors") {
    check_error("split_last: n is 5, want 0 to 4, the last dim of x [2,4]", [] {
        split_last(Tensor::zeros({2, 4}), 5);
    });
    check_error("split_last: x is a scalar, want at least 1 dim", [] { split_last(Tensor::zeros({}), 0); });
    check_error("split_last: needs float32 or float64, has int32",
                [] { split_last(Tensor::zeros({2}, DType::int32), 1); });
    check_error("join_heads: a is [2,3], want 4 dims", [] {
        join_heads(Tensor::zeros({2, 3}), Tensor::zeros({1, 1, 1, 1}));
    });
    check_error("join_heads: c is [1,2,4,3], want [1,2,3,3], to fit a [1,2,3,4]", [] {
        join_heads(Tensor::zeros({1, 2, 3, 4}), Tensor::zeros({1, 2, 4, 3}));
    });
    check_error("join_heads: c is float64, want float32", [] {
        join_heads(Tensor::zeros({1, 2, 3, 4}), Tensor::zeros({1, 2, 3, 4}, DType::float64));
    });
}
