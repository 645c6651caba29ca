#include "framework/ops/moe_sigmoid_routing/moe_sigmoid_routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

double sigmoid(double x) {
    return 1 / (1 + std::exp(-x));
}

// Logits whose sigmoids stay far further apart than the step of a finite difference, so that no selection
// changes.
Tensor separated_logits(int64_t tokens, int64_t experts, uint64_t seed) {
    const Tensor logits = random_normal({tokens, experts}, seed);
    for (int64_t n = 0; n < tokens; ++n)
        for (int64_t e = 0; e < experts; ++e) {
            double& l = logits.data<double>()[n * experts + e];
            l = std::round(l * 20) / 20 + 1e-3 * static_cast<double>(e);
        }
    return logits;
}

std::vector<int32_t> sorted_experts(const std::vector<double>& scores) {
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
    return order;
}

// E sum_e f_e P_e from the definitions, with f from the given choice.
double balancing_of(const Tensor& logits, const Tensor& chosen) {
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    std::vector<double> f(static_cast<size_t>(experts), 0), p(static_cast<size_t>(experts), 0);
    for (int64_t s = 0; s < chosen.numel(); ++s)
        f[static_cast<size_t>(chosen.data<int32_t>()[s])] += 1.0 / static_cast<double>(chosen.numel());
    for (int64_t n = 0; n < tokens; ++n) {
        double sum = 0;
        const double* l = logits.data<double>() + n * experts;
        for (int64_t e = 0; e < experts; ++e) sum += sigmoid(l[e]);
        for (int64_t e = 0; e < experts; ++e)
            p[static_cast<size_t>(e)] += sigmoid(l[e]) / sum / static_cast<double>(tokens);
    }
    return static_cast<double>(experts) * std::inner_product(f.begin(), f.end(), p.begin(), 0.0);
}

void check_values(const Tensor& logits, const Tensor& bias, int64_t k, double scaling) {
    const Routing r = moe_sigmoid_routing(logits, bias, k, scaling);
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    for (int64_t n = 0; n < tokens; ++n) {
        const double* l = logits.data<double>() + n * experts;
        std::vector<double> biased;
        for (int64_t e = 0; e < experts; ++e) biased.push_back(sigmoid(l[e]) + bias.data<double>()[e]);
        const std::vector<int32_t> order = sorted_experts(biased);
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += sigmoid(l[order[static_cast<size_t>(j)]]);
        for (int64_t j = 0; j < k; ++j) {
            const int32_t want = order[static_cast<size_t>(j)];
            CHECK(r.experts.data<int32_t>()[n * k + j] == want);
            CHECK(r.weights.data<double>()[n * k + j] ==
                  doctest::Approx(scaling * sigmoid(l[want]) / sum).epsilon(1e-12));
        }
    }
    CHECK(r.load_balancing.item() == doctest::Approx(balancing_of(logits, r.experts)).epsilon(1e-12));
    const DType f32 = DType::float32;
    const Routing single = moe_sigmoid_routing(logits.to(f32), bias.to(f32), k, scaling);
    CHECK(bit_identical(single.experts, r.experts));
    CHECK(relative_difference(single.weights, r.weights) < 1e-6);
    CHECK(single.load_balancing.item() == doctest::Approx(r.load_balancing.item()).epsilon(1e-6));
}

Tensor row(const std::vector<float>& values) {
    return Tensor::from(values, {1, static_cast<int64_t>(values.size())});
}

Tensor vector_of(const std::vector<float>& values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_CASE("moe_sigmoid_routing: values against the formulas") {
    for (const int64_t tokens : {1, 2, 7, 33, 600})
        for (const int64_t experts : {1, 2, 3, 8})
            for (int64_t k = 1; k <= std::min<int64_t>(experts, 4); ++k)
                check_values(separated_logits(tokens, experts, 11), random_normal({experts}, 12), k, 1);
    check_values(separated_logits(3, 8, 12), random_normal({8}, 13), 8, 2.5);
}

TEST_CASE("moe_sigmoid_routing: the bias chooses the experts and leaves their weights alone") {
    const Tensor logits = row({2, 1, 0});
    const Routing plain = moe_sigmoid_routing(logits, vector_of({0, 0, 0}), 2, 1);
    CHECK(plain.experts.to_vector<int32_t>() == std::vector<int32_t>{0, 1});
    const Routing moved = moe_sigmoid_routing(logits, vector_of({-0.5f, 0.5f, 0}), 2, 1);
    CHECK(moved.experts.to_vector<int32_t>() == std::vector<int32_t>{1, 2});
    const double s1 = sigmoid(1), s2 = sigmoid(0);
    CHECK(moved.weights.data<float>()[0] == doctest::Approx(s1 / (s1 + s2)).epsilon(1e-6));
}

TEST_CASE("moe_sigmoid_routing: without tokens the balancing loss is 0 and so are the shapes") {
    const Tensor logits = Tensor::zeros({0, 3});
    logits.set_requires_grad(true);
    const Routing r = moe_sigmoid_routing(logits, Tensor::zeros({3}), 2, 1);
    CHECK(r.weights.shape() == Shape{0, 2});
    CHECK(r.experts.shape() == Shape{0, 2});
    CHECK(r.load_balancing.item() == 0.0);
    backward(r.load_balancing);
    CHECK(logits.grad().shape() == Shape{0, 3});
}

TEST_CASE("moe_sigmoid_routing: ties go to the lower index") {
    const auto chosen = [](const std::vector<float>& logits, const std::vector<float>& bias, int64_t k) {
        return moe_sigmoid_routing(row(logits), vector_of(bias), k, 1).experts.to_vector<int32_t>();
    };
    CHECK(chosen({0, 0, 0, 0}, {0, 0, 0, 0}, 2) == std::vector<int32_t>{0, 1});
    CHECK(chosen({1, 2, 2, 1}, {0, 0, 0, 0}, 3) == std::vector<int32_t>{1, 2, 0});
    CHECK(chosen({50, 60, 70}, {0, 0, 0}, 2) == std::vector<int32_t>{0, 1});  // all sigmoids are 1
    CHECK(chosen({0, 0, 0}, {0, 0.25f, 0.25f}, 2) == std::vector<int32_t>{1, 2});
    const Routing tied = moe_sigmoid_routing(Tensor::zeros({5, 4}), Tensor::zeros({4}), 2, 1);
    for (const float w : tied.weights.to_vector<float>()) CHECK(w == 0.5f);
    CHECK(tied.load_balancing.item() == 1.0);
}

TEST_CASE("moe_sigmoid_routing: scores that are all 0 give weights 0; NaN still gives distinct experts") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Routing none = moe_sigmoid_routing(row({-200, -300}), vector_of({0, 0}), 2, 1);
    for (const float w : none.weights.to_vector<float>()) CHECK(w == 0.0f);
    for (const int64_t k : {1, 2, 3}) {
        const Routing r = moe_sigmoid_routing(row({nan, 1, nan}), vector_of({0, 0, 0}), k, 1);
        std::vector<int32_t> experts = r.experts.to_vector<int32_t>();
        std::sort(experts.begin(), experts.end());
        CHECK(std::unique(experts.begin(), experts.end()) == experts.end());
        CHECK((experts.front() >= 0 && experts.back() < 3));
    }
}

TEST_CASE("moe_sigmoid_routing: gradients of the weights, of the balancing loss and of both") {
    // f is constant near a point without ties, so finite differences see the gradient through P alone.
    for (const int64_t tokens : {1, 2, 7, 33})
        for (const int64_t experts : {1, 2, 3, 8})
            for (const int64_t k : {int64_t{1}, std::min<int64_t>(2, experts), experts})
                for (const int which : {0, 1, 2})
                    check_gradients("tokens " + std::to_string(tokens) + " experts " +
                                        std::to_string(experts) + " top_k " + std::to_string(k) +
                                        " outputs " + std::to_string(which),
                                    [&](const std::vector<Tensor>& in) {
                                        const Routing r = moe_sigmoid_routing(in[0], in[1], k, 2.5);
                                        if (which == 0) return std::vector<Tensor>{r.weights};
                                        if (which == 1) return std::vector<Tensor>{r.load_balancing};
                                        return std::vector<Tensor>{r.weights, r.load_balancing};
                                    },
                                    {separated_logits(tokens, experts, 13).set_requires_grad(true),
                                     random_normal({experts}, 14)});
}

TEST_CASE("moe_sigmoid_routing: the bits depend neither on the threads nor on other tokens") {
    const int threads = thread_count();
    const Tensor logits = random_normal({1500, 4}, 14, DType::float32);
    const Tensor bias = random_normal({4}, 16, DType::float32, 0.1);
    const Tensor dweights = random_normal({1500, 2}, 15, DType::float32);
    std::vector<Tensor> seen;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        const Tensor leaf = logits.clone().set_requires_grad(true);
        const Routing r = moe_sigmoid_routing(leaf, bias, 2, 1);
        const Tensor one = Tensor::full({}, 1.0);
        backward({r.weights, r.load_balancing}, {dweights, one});
        seen.insert(seen.end(), {r.weights, r.load_balancing, leaf.grad()});
    }
    set_thread_count(threads);
    for (size_t i = 3; i < seen.size(); ++i) CHECK(bit_identical(seen[i], seen[i % 3]));
    CHECK(bit_identical(moe_sigmoid_routing(logits.rows(700, 701), bias, 2, 1).weights,
                        seen[0].rows(700, 701)));
}

TEST_CASE("moe_sigmoid_routing: errors") {
    const Tensor logits = Tensor::zeros({5, 2}), bias = Tensor::zeros({2});
    check_error("moe_sigmoid_routing: top_k is 3, want 1 to 2 (the number of experts)",
                [&] { moe_sigmoid_routing(logits, bias, 3, 1); });
    check_error("moe_sigmoid_routing: bias is [3], want [2], one number per expert",
                [&] { moe_sigmoid_routing(logits, Tensor::zeros({3}), 1, 1); });
    check_error("moe_sigmoid_routing: bias is float64, want float32",
                [&] { moe_sigmoid_routing(logits, Tensor::zeros({2}, DType::float64), 1, 1); });
    check_error("moe_sigmoid_routing: scaling is 0.000000, want more than 0",
                [&] { moe_sigmoid_routing(logits, bias, 1, 0); });
    check_error("moe_sigmoid_routing: logits is [5], want 2 dims",
                [&] { moe_sigmoid_routing(Tensor::zeros({5}), bias, 1, 1); });
    check_error("moe_sigmoid_routing: the bias wants a gradient, but none reaches it: the load moves it",
                [&] { moe_sigmoid_routing(logits, Tensor::zeros({2}).set_requires_grad(true), 1, 1); });
}
