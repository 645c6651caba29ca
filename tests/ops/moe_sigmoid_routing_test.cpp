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

// Those of the groups with the largest sums of their best two; the others become -infinity.
std::vector<double> of_best_groups(std::vector<double> biased, int64_t groups, int64_t top_groups) {
    const size_t members = biased.size() / static_cast<size_t>(groups);
    std::vector<double> sums;
    for (size_t g = 0; g < static_cast<size_t>(groups); ++g) {
        std::vector<double> own(biased.begin() + static_cast<int64_t>(g * members),
                                biased.begin() + static_cast<int64_t>((g + 1) * members));
        std::sort(own.begin(), own.end(), std::greater<>());
        sums.push_back(own[0] + (members > 1 ? own[1] : 0));
    }
    const std::vector<int32_t> order = sorted_experts(sums);
    for (size_t g = static_cast<size_t>(top_groups); g < static_cast<size_t>(groups); ++g)
        std::fill_n(biased.begin() + order[g] * static_cast<int64_t>(members), members,
                    -std::numeric_limits<double>::infinity());
    return biased;
}

void check_values(const Tensor& logits, const Tensor& bias, const SigmoidRouting& config) {
    const Routing r = moe_sigmoid_routing(logits, bias, config);
    const int64_t k = config.top_k;
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    for (int64_t n = 0; n < tokens; ++n) {
        const double* l = logits.data<double>() + n * experts;
        std::vector<double> biased;
        for (int64_t e = 0; e < experts; ++e) biased.push_back(sigmoid(l[e]) + bias.data<double>()[e]);
        if (config.groups > 1) biased = of_best_groups(biased, config.groups, config.top_groups);
        const std::vector<int32_t> order = sorted_experts(biased);
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += sigmoid(l[order[static_cast<size_t>(j)]]);
        for (int64_t j = 0; j < k; ++j) {
            const int32_t want = order[static_cast<size_t>(j)];
            CHECK(r.experts.data<int32_t>()[n * k + j] == want);
            CHECK(r.weights.data<double>()[n * k + j] ==
                  doctest::Approx(config.scaling * sigmoid(l[want]) / (config.normalised ? sum : 1))
                      .epsilon(1e-12));
        }
    }
    CHECK(r.load_balancing.item() == doctest::Approx(balancing_of(logits, r.experts)).epsilon(1e-12));
    const DType f32 = DType::float32;
    const Routing single = moe_sigmoid_routing(logits.to(f32), bias.to(f32), config);
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
                check_values(separated_logits(tokens, experts, 11), random_normal({experts}, 12),
                             {.top_k = k});
    check_values(separated_logits(3, 8, 12), random_normal({8}, 13), {.top_k = 8, .scaling = 2.5});
}

TEST_CASE("moe_sigmoid_routing: expert groups, and weights as they are, against the formulas") {
    for (const int64_t tokens : {1, 7, 600})
        for (const auto& [groups, members] : {std::pair<int64_t, int64_t>{2, 2}, {2, 3}, {3, 5}, {8, 32}})
            for (const int64_t top_groups : {int64_t{1}, groups - 1, groups})
                for (const int64_t k : {int64_t{1}, int64_t{2}, members * top_groups})
                    for (const bool normalised : {true, false})
                        check_values(separated_logits(tokens, groups * members, 11),
                                     random_normal({groups * members}, 12, DType::float64, 0.2),
                                     {.top_k = k,
                                      .scaling = 2.5,
                                      .normalised = normalised,
                                      .groups = groups,
                                      .top_groups = top_groups});
}

DEVICE_TEST_CASE("moe_sigmoid_routing: groups choose as on the CPU, ties and NaN too", device) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const SigmoidRouting config{.top_k = 3, .groups = 4, .top_groups = 2};
    const Tensor bias = vector_of({0, 0, 0, 0, 0, 0, 0, 0});
    const auto chosen = [&](const std::vector<float>& logits, const Tensor& with) {
        return moe_sigmoid_routing(row(logits).to(device), with.to(device), config)
            .experts.to(Device{})
            .to_vector<int32_t>();
    };
    const auto want = [](std::vector<int32_t> experts) { return experts; };
    // Groups of two: all tie, and so do their experts.
    CHECK(chosen({0, 0, 0, 0, 0, 0, 0, 0}, bias) == want({0, 1, 2}));
    // The best expert of all, 6, has a poor neighbour: its group is not among the best two.
    CHECK(chosen({2, 2, -9, -9, 1, 1, 4, -9}, bias) == want({0, 1, 4}));
    // Groups 1 and 3 tie for the second place; the groups' own order is not that of their scores.
    CHECK(chosen({-9, -9, 1, 1, 3, 3, 1, 1}, bias) == want({4, 5, 2}));
    // Group 2 comes first, but among equal experts of the groups the lower index does.
    CHECK(chosen({1, 1, -9, -9, 3, 1, -9, -9}, bias) == want({4, 0, 1}));
    // By the bias alone; scores below all others of a group that stays are chosen before better ones outside.
    CHECK(chosen({0, 0, 0, 0, 0, 0, 0, 0}, vector_of({0, 0, -0.5f, -9, 0, 0, -1, -1})) == want({0, 1, 4}));
    CHECK(chosen({5, -90, 5, -90, 1, 1, 1, 1}, vector_of({0, 0, 0, 0, 0, 0, 0, 0})) == want({4, 5, 6}));
    for (const std::vector<float>& logits : {std::vector<float>{nan, nan, nan, nan, nan, nan, nan, nan},
                                             {1, nan, nan, 2, nan, nan, 3, 3},
                                             {nan, nan, 1, 1, nan, nan, nan, 7}}) {
        std::vector<int32_t> experts = chosen(logits, bias);
        std::sort(experts.begin(), experts.end());
        CHECK(std::unique(experts.begin(), experts.end()) == experts.end());
        CHECK((experts.front() >= 0 && experts.back() < 8));
    }
    const auto f = [&](const std::vector<Tensor>& in) {
        const Routing r = moe_sigmoid_routing(
            in[0], in[1], {.top_k = 4, .scaling = 2.5, .normalised = false, .groups = 3, .top_groups = 2});
        return std::vector<Tensor>{r.weights, r.load_balancing};
    };
    check_agrees_with_cpu("groups", f,
                          {separated_logits(33, 15, 3).set_requires_grad(true), random_normal({15}, 4)},
                          device, 1e-27);
}

TEST_CASE("moe_sigmoid_routing: gradients within groups, and of weights as they are") {
    for (const bool normalised : {true, false})
        for (const int which : {0, 1, 2})
            for (const auto& [groups, top_groups] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {2, 1}})
                check_gradients("outputs " + std::to_string(which) + " groups " + std::to_string(groups),
                                [which, normalised, groups = groups,
                                 top_groups = top_groups](const std::vector<Tensor>& in) {
                                    const Routing r = moe_sigmoid_routing(in[0], in[1],
                                                                          {.top_k = 2,
                                                                           .scaling = 2.5,
                                                                           .normalised = normalised,
                                                                           .groups = groups,
                                                                           .top_groups = top_groups});
                                    if (which == 0) return std::vector<Tensor>{r.weights};
                                    if (which == 1) return std::vector<Tensor>{r.load_balancing};
                                    return std::vector<Tensor>{r.weights, r.load_balancing};
                                },
                                {separated_logits(9, 12, 13).set_requires_grad(true),
                                 random_normal({12}, 14, DType::float64, 0.2)});
}

TEST_CASE("moe_sigmoid_routing: the bias chooses the experts and leaves their weights alone") {
    const Tensor logits = row({2, 1, 0});
    const Routing plain = moe_sigmoid_routing(logits, vector_of({0, 0, 0}), {.top_k = 2});
    CHECK(plain.experts.to_vector<int32_t>() == std::vector<int32_t>{0, 1});
    const Routing moved = moe_sigmoid_routing(logits, vector_of({-0.5f, 0.5f, 0}), {.top_k = 2});
    CHECK(moved.experts.to_vector<int32_t>() == std::vector<int32_t>{1, 2});
    const double s1 = sigmoid(1), s2 = sigmoid(0);
    CHECK(moved.weights.data<float>()[0] == doctest::Approx(s1 / (s1 + s2)).epsilon(1e-6));
}

TEST_CASE("moe_sigmoid_routing: without tokens the balancing loss is 0 and so are the shapes") {
    const Tensor logits = Tensor::zeros({0, 3});
    logits.set_requires_grad(true);
    const Routing r = moe_sigmoid_routing(logits, Tensor::zeros({3}), {.top_k = 2});
    CHECK(r.weights.shape() == Shape{0, 2});
    CHECK(r.experts.shape() == Shape{0, 2});
    CHECK(r.load_balancing.item() == 0.0);
    backward(r.load_balancing);
    CHECK(logits.grad().shape() == Shape{0, 3});
}

TEST_CASE("moe_sigmoid_routing: ties go to the lower index") {
    const auto chosen = [](const std::vector<float>& logits, const std::vector<float>& bias, int64_t k) {
        return moe_sigmoid_routing(row(logits), vector_of(bias), {.top_k = k}).experts.to_vector<int32_t>();
    };
    CHECK(chosen({0, 0, 0, 0}, {0, 0, 0, 0}, 2) == std::vector<int32_t>{0, 1});
    CHECK(chosen({1, 2, 2, 1}, {0, 0, 0, 0}, 3) == std::vector<int32_t>{1, 2, 0});
    CHECK(chosen({50, 60, 70}, {0, 0, 0}, 2) == std::vector<int32_t>{0, 1});  // all sigmoids are 1
    CHECK(chosen({0, 0, 0}, {0, 0.25f, 0.25f}, 2) == std::vector<int32_t>{1, 2});
    const Routing tied = moe_sigmoid_routing(Tensor::zeros({5, 4}), Tensor::zeros({4}), {.top_k = 2});
    for (const float w : tied.weights.to_vector<float>()) CHECK(w == 0.5f);
    CHECK(tied.load_balancing.item() == 1.0);
}

TEST_CASE("moe_sigmoid_routing: scores that are all 0 give weights 0; NaN still gives distinct experts") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Routing none = moe_sigmoid_routing(row({-200, -300}), vector_of({0, 0}), {.top_k = 2});
    for (const float w : none.weights.to_vector<float>()) CHECK(w == 0.0f);
    for (const int64_t k : {1, 2, 3}) {
        const Routing r = moe_sigmoid_routing(row({nan, 1, nan}), vector_of({0, 0, 0}), {.top_k = k});
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
                    check_gradients(
                        "tokens " + std::to_string(tokens) + " experts " + std::to_string(experts) +
                            " top_k " + std::to_string(k) + " outputs " + std::to_string(which),
                        [&](const std::vector<Tensor>& in) {
                            const Routing r = moe_sigmoid_routing(in[0], in[1], {.top_k = k, .scaling = 2.5});
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
        const Routing r = moe_sigmoid_routing(leaf, bias, {.top_k = 2});
        const Tensor one = Tensor::full({}, 1.0);
        backward({r.weights, r.load_balancing}, {dweights, one});
        seen.insert(seen.end(), {r.weights, r.load_balancing, leaf.grad()});
    }
    set_thread_count(threads);
    for (size_t i = 3; i < seen.size(); ++i) CHECK(bit_identical(seen[i], seen[i % 3]));
    CHECK(bit_identical(moe_sigmoid_routing(logits.rows(700, 701), bias, {.top_k = 2}).weights,
                        seen[0].rows(700, 701)));
}

TEST_CASE("moe_sigmoid_routing: errors") {
    const Tensor logits = Tensor::zeros({5, 2}), bias = Tensor::zeros({2});
    check_error("moe_sigmoid_routing: top_k is 3, want 1 to 2 (the number of experts)",
                [&] { moe_sigmoid_routing(logits, bias, {.top_k = 3}); });
    check_error("moe_sigmoid_routing: bias is [3], want [2], one number per expert",
                [&] { moe_sigmoid_routing(logits, Tensor::zeros({3}), {.top_k = 1}); });
    check_error("moe_sigmoid_routing: bias is float64, want float32",
                [&] { moe_sigmoid_routing(logits, Tensor::zeros({2}, DType::float64), {.top_k = 1}); });
    check_error("moe_sigmoid_routing: scaling is 0.000000, want more than 0",
                [&] { moe_sigmoid_routing(logits, bias, {.top_k = 1, .scaling = 0}); });
    const Tensor six = Tensor::zeros({5, 6}), bias_of_six = Tensor::zeros({6});
    for (const int64_t groups : {0, 4, 6})
        check_error(
            "moe_sigmoid_routing: groups is " + std::to_string(groups) +
                " for 6 experts, want groups of one size, at least 2",
            [&] { moe_sigmoid_routing(six, bias_of_six, {.top_k = 1, .groups = groups, .top_groups = 2}); });
    for (const int64_t top_groups : {0, 1, 4})
        check_error("moe_sigmoid_routing: top_groups is " + std::to_string(top_groups) +
                        " of 3 groups of 2 experts, want 3 experts (top_k) in them",
                    [&] {
                        moe_sigmoid_routing(six, bias_of_six,
                                            {.top_k = 3, .groups = 3, .top_groups = top_groups});
                    });
    check_error("moe_sigmoid_routing: logits is [5], want 2 dims",
                [&] { moe_sigmoid_routing(Tensor::zeros({5}), bias, {.top_k = 1}); });
    check_error(
        "moe_sigmoid_routing: the bias wants a gradient, but none reaches it: the load moves it",
        [&] { moe_sigmoid_routing(logits, Tensor::zeros({2}).set_requires_grad(true), {.top_k = 1}); });
}
