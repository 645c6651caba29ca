#include "framework/ops/head_linear/head_linear.h"

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

struct Case {
    int64_t B, T, H, block, first, count, columns;
};

const std::vector<Case> cases = {{1, 1, 1, 1, 0, 1, 1}, {2, 3, 4, 7, 0, 3, 5},   {2, 3, 4, 7, 3, 4, 5},
                                 {1, 7, 2, 5, 1, 3, 8}, {3, 5, 1, 33, 2, 31, 3}, {1, 2, 3, 4, 2, 0, 5},
                                 {0, 3, 2, 4, 1, 2, 3}, {1, 3, 2, 4, 0, 4, 33}};

std::string name_of(const Case& c) {
    return "B " + std::to_string(c.B) + " T " + std::to_string(c.T) + " H " + std::to_string(c.H) + " rows " +
           std::to_string(c.first) + "+" + std::to_string(c.count) + " of " + std::to_string(c.block) +
           " columns " + std::to_string(c.columns);
}

// By the formulas.
Tensor oracle(const Case& c, const Tensor& x, const Tensor& weight, bool transposed) {
    const int64_t out = transposed ? c.columns : c.count, in = transposed ? c.count : c.columns;
    const Tensor y = Tensor::zeros({c.B, c.T, c.H, out}, DType::float64);
    for (int64_t row = 0; row < c.B * c.T * c.H; ++row)
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i) {
                const int64_t n = transposed ? i : o, column = transposed ? o : i;
                y.data<double>()[row * out + o] +=
                    x.data<double>()[row * in + i] *
                    weight.data<double>()[(row % c.H * c.block + c.first + n) * c.columns + column];
            }
    return y;
}

Tensor input_of(const Case& c, bool transposed) {
    return random_normal({c.B, c.T, c.H, transposed ? c.count : c.columns}, 1);
}

Tensor weight_of(const Case& c) {
    return random_normal({c.H * c.block, c.columns}, 2);
}

Tensor run(const Case& c, const Tensor& x, const Tensor& weight, bool transposed) {
    const HeadRows rows{c.first, c.count};
    return transposed ? head_linear_transposed(x, weight, rows) : head_linear(x, weight, rows);
}

}  // namespace

TEST_CASE("head_linear: values against the formulas, both ways") {
    for (const Case& c : cases)
        for (const bool transposed : {false, true}) {
            INFO(name_of(c) << (transposed ? " transposed" : ""));
            const Tensor x = input_of(c, transposed), weight = weight_of(c);
            const Tensor want = oracle(c, x, weight, transposed);
            const Tensor got = run(c, x, weight, transposed);
            REQUIRE(got.shape() == want.shape());
            CHECK(relative_difference(got, want) < 1e-14);
            const DType f32 = DType::float32;
            CHECK(relative_difference(run(c, x.to(f32), weight.to(f32), transposed), want) < 1e-5);
        }
}

TEST_CASE("head_linear: gradients of x, of the weight and of both, both ways") {
    for (const Case& c : cases)
        for (const bool transposed : {false, true})
            for (const int which : {1, 2, 3}) {
                const Tensor x = input_of(c, transposed), weight = weight_of(c);
                if (which & 1) x.set_requires_grad(true);
                if (which & 2) weight.set_requires_grad(true);
                check_gradients(
                    name_of(c) + (transposed ? " transposed" : "") + " inputs " + std::to_string(which),
                    [&](const std::vector<Tensor>& in) {
                        return std::vector<Tensor>{run(c, in[0], in[1], transposed)};
                    },
                    {x, weight});
            }
}

TEST_CASE("head_linear: absorbing a weight into the queries gives the scores of projected keys") {
    // (q W) . c = q . (W c)
    const Tensor weight = random_normal({2 * 3, 5}, 3), q = random_normal({1, 1, 2, 3}, 4);
    const Tensor latent = random_normal({1, 1, 2, 5}, 5);
    const Tensor absorbed = head_linear_transposed(q, weight, {0, 3});
    const Tensor key = head_linear(latent, weight, {0, 3});
    double by_latent = 0, by_key = 0;
    for (int64_t i = 0; i < 10; ++i) by_latent += absorbed.data<double>()[i] * latent.data<double>()[i];
    for (int64_t i = 0; i < 6; ++i) by_key += q.data<double>()[i] * key.data<double>()[i];
    CHECK(by_latent == doctest::Approx(by_key).epsilon(1e-13));
}

TEST_CASE("head_linear: the bits depend neither on the threads nor on other rows") {
    const int threads = thread_count();
    const Case c{2, 300, 3, 20, 4, 16, 24};
    const Tensor x = input_of(c, false).to(DType::float32), weight = weight_of(c).to(DType::float32);
    set_thread_count(1);
    const Tensor one = run(c, x, weight, false);
    set_thread_count(2);
    CHECK(bit_identical(run(c, x, weight, false), one));
    set_thread_count(threads);
    const Tensor row = x.alias({600, 3, 24}).rows(431, 432).alias({1, 1, 3, 24});
    CHECK(bit_identical(head_linear(row, weight, {4, 16}).alias({1, 3, 16}),
                        one.alias({600, 3, 16}).rows(431, 432)));
}

TEST_CASE("head_linear: errors") {
    const Tensor x = Tensor::zeros({1, 2, 3, 5});
    check_error(
        "head_linear: weight is [7,5], want a multiple of 3 rows, one block for each head of x [1,2,3,5]",
        [&] {
            head_linear(x, Tensor::zeros({7, 5}), {0, 1});
        });
    check_error("head_linear: rows 1 to 4 of a head's 2", [&] {
        head_linear(x, Tensor::zeros({6, 5}), {1, 3});
    });
    check_error("head_linear: x is [1,2,3,5], want [1,2,3,4], the columns of weight", [&] {
        head_linear(x, Tensor::zeros({6, 4}), {0, 2});
    });
    check_error("head_linear: x is [1,2,3,5], want [1,2,3,2], as many as rows are read", [&] {
        head_linear_transposed(x, Tensor::zeros({6, 4}), {0, 2});
    });
    check_error("head_linear: weight is float64, want float32", [&] {
        head_linear(x, Tensor::zeros({6, 5}, DType::float64), {0, 2});
    });
    check_error("head_linear: x is [2,3], want 4 dims", [&] {
        head_linear(Tensor::zeros({2, 3}), Tensor::zeros({6, 5}), {0, 2});
    });
}
