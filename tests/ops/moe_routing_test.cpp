#include "framework/ops/moe_routing/moe_routing.h"

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

// Logits whose differences stay far above the step of a finite difference, so that no selection changes.
Tensor separated_logits(int64_t tokens, int64_t experts, uint64_t seed) {
    const Tensor logits = random_normal({tokens, experts}, seed);
    for (int64_t n = 0; n < tokens; ++n)
        for (int64_t e = 0; e < experts; ++e) {
            double& l = logits.data<double>()[n * experts + e];
            l = std::round(l * 20) / 20 + 1e-3 * static_cast<double>(e);
        }
    return logits;
}

std::vector<int32_t> sorted_experts(const double* logits, int64_t experts) {
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
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
        for (int64_t e = 0; e < experts; ++e) sum += std::exp(l[e]);
        for (int64_t e = 0; e < experts; ++e)
            p[static_cast<size_t>(e)] += std::exp(l[e]) / sum / static_cast<double>(tokens);
    }
    return static_cast<double>(experts) * std::inner_product(f.begin(), f.end(), p.begin(), 0.0);
}

void check_values(const Tensor& logits, int64_t k) {
    const Routing r = moe_routing(logits, k);
    const int64_t tokens = logits.dim(0), experts = logits.dim(1);
    for (int64_t n = 0; n < tokens; ++n) {
        const double* l = logits.data<double>() + n * experts;
        const std::vector<int32_t> order = sorted_experts(l, experts);
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += std::exp(l[order[static_cast<size_t>(j)]]);
        for (int64_t j = 0; j < k; ++j) {
            const int32_t want = order[static_cast<size_t>(j)];
            CHECK(r.experts.data<int32_t>()[n * k + j] == want);
            CHECK(r.weights.data<double>()[n * k + j] ==
                  doctest::Approx(std::exp(l[want]) / sum).epsilon(1e-12));
        }
    }
    CHECK(r.load_balancing.item() == doctest::Approx(balancing_of(logits, r.experts)).epsilon(1e-12));
    const Routing single = moe_routing(logits.to(DType::float32), k);
    CHECK(bit_identical(single.experts, r.experts));
    CHECK(relative_difference(single.weights, r.weights) < 1e-6);
    CHECK(single.load_balancing.item() == doctest::Approx(r.load_balancing.item()).epsilon(1e-6));
}

}  // namespace

TEST_CASE("moe_routing: values against the formulas") {
    for (const int64_t tokens : {1, 2, 7, 33, 600})
        for (const int64_t experts : {1, 2, 3, 8})
            for (int64_t k = 1; k <= std::min<int64_t>(experts, 4); ++k)
                check_values(separated_logits(tokens, experts, 11), k);
    check_values(separated_logits(3, 8, 12), 8);
}

TEST_CASE("moe_routing: weights over all experts, and scaled, against the formulas") {
    const Tensor logits = separated_logits(33, 5, 21);
    for (const int64_t k : {1, 3, 5}) {
        const Routing selected = moe_routing(logits, k), all = moe_routing(logits, k, RouterWeights::all),
                      scaled = moe_routing(logits, k, RouterWeights::scaled),
                      through = moe_routing(logits, k, RouterWeights::straight_through);
        for (int64_t n = 0; n < 33; ++n) {
            const double* l = logits.data<double>() + n * 5;
            double sum = 0;
            for (int64_t e = 0; e < 5; ++e) sum += std::exp(l[e]);
            for (int64_t j = 0; j < k; ++j) {
                const int64_t at = n * k + j;
                const double p = std::exp(l[all.experts.data<int32_t>()[at]]) / sum;
                CHECK(all.weights.data<double>()[at] == doctest::Approx(p).epsilon(1e-12));
                CHECK(scaled.weights.data<double>()[at] == doctest::Approx(5 * p).epsilon(1e-12));
            }
        }
        CHECK(bit_identical(through.weights, selected.weights));
        for (const Routing* r : {&all, &scaled, &through}) {
            CHECK(bit_identical(r->experts, selected.experts));
            CHECK(bit_identical(r->load_balancing, selected.load_balancing));
        }
    }
}

// With one expert a token: d log p of the chosen one is 1 - p for it and -p for the others.
TEST_CASE("moe_routing: straight_through has the weights' value and the gradient of log p") {
    const Tensor logits = separated_logits(7, 3, 22).set_requires_grad(true);
    const Tensor dweights = random_normal({7, 1}, 23);
    const Routing r = moe_routing(logits, 1, RouterWeights::straight_through);
    for (const double w : r.weights.to_vector<double>()) CHECK(w == 1.0);
    backward({r.weights}, {dweights});
    for (int64_t n = 0; n < 7; ++n) {
        double sum = 0;
        const double* l = logits.data<double>() + n * 3;
        for (int64_t e = 0; e < 3; ++e) sum += std::exp(l[e]);
        for (int64_t e = 0; e < 3; ++e) {
            const double chosen = r.experts.data<int32_t>()[n] == e ? 1 : 0;
            CHECK(
                logits.grad().data<double>()[n * 3 + e] ==
                doctest::Approx(dweights.data<double>()[n] * (chosen - std::exp(l[e]) / sum)).epsilon(1e-12));
        }
    }
    // The fault that this mends: the loss does not reach the logits by the normalised weight of one expert.
    const Tensor same = logits.detach().clone().set_requires_grad(true);
    backward({moe_routing(same, 1).weights}, {dweights});
    for (const double g : same.grad().to_vector<double>()) CHECK(g == 0.0);
}

TEST_CASE("moe_routing: without tokens the balancing loss is 0 and so are the shapes") {
    const Tensor logits = Tensor::zeros({0, 3});
    logits.set_requires_grad(true);
    const Routing r = moe_routing(logits, 2);
    CHECK(r.weights.shape() == Shape{0, 2});
    CHECK(r.experts.shape() == Shape{0, 2});
    CHECK(r.load_balancing.item() == 0.0);
    backward(r.load_balancing);
    CHECK(logits.grad().shape() == Shape{0, 3});
}

TEST_CASE("moe_routing: ties go to the lower index") {
    const auto chosen = [](const std::vector<float>& row, int64_t k) {
        return moe_routing(Tensor::from(row, {1, static_cast<int64_t>(row.size())}), k)
            .experts.to_vector<int32_t>();
    };
    CHECK(chosen({0, 0, 0, 0}, 2) == std::vector<int32_t>{0, 1});
    CHECK(chosen({1, 2, 2, 1}, 3) == std::vector<int32_t>{1, 2, 0});
    CHECK(chosen({1, 2, 2, 2}, 2) == std::vector<int32_t>{1, 2});
    CHECK(chosen({-0.0f, 0.0f, -1, 0.0f}, 3) == std::vector<int32_t>{0, 1, 3});
    CHECK(chosen({3, 1, 3}, 1) == std::vector<int32_t>{0});
    const float inf = std::numeric_limits<float>::infinity();
    CHECK(chosen({-inf, 1, -inf}, 2) == std::vector<int32_t>{1, 0});
    const Routing tied = moe_routing(Tensor::zeros({5, 4}), 2);
    for (const float w : tied.weights.to_vector<float>()) CHECK(w == 0.5f);
    CHECK(tied.load_balancing.item() == 1.0);
}

TEST_CASE("moe_routing: NaN logits still give distinct experts in range") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Tensor logits = Tensor::from(std::vector<float>{nan, 1, 2, nan, nan, nan, 3, nan, 3}, {3, 3});
    for (const int64_t k : {1, 2, 3}) {
        const Routing r = moe_routing(logits, k);
        for (int64_t n = 0; n < 3; ++n) {
            std::vector<bool> seen(3, false);
            for (int64_t j = 0; j < k; ++j) {
                const int32_t e = r.experts.data<int32_t>()[n * k + j];
                REQUIRE((e >= 0 && e < 3));
                CHECK(!seen[static_cast<size_t>(e)]);
                seen[static_cast<size_t>(e)] = true;
            }
        }
    }
}

TEST_CASE("moe_routing: gradients of the weights, of the balancing loss and of both") {
    // f is constant near a point without ties, so finite differences see the gradient through P alone.
    for (const int64_t tokens : {1, 2, 7, 33})
        for (const int64_t experts : {1, 2, 3, 8})
            for (const int64_t k : {int64_t{1}, std::min<int64_t>(2, experts), experts})
                for (const auto& outputs :
                     {std::pair{0, RouterWeights::selected}, std::pair{1, RouterWeights::selected},
                      std::pair{2, RouterWeights::selected}, std::pair{0, RouterWeights::all},
                      std::pair{2, RouterWeights::scaled}}) {
                    const int which = outputs.first;
                    const RouterWeights weights = outputs.second;
                    check_gradients("tokens " + std::to_string(tokens) + " experts " +
                                        std::to_string(experts) + " top_k " + std::to_string(k) +
                                        " outputs " + std::to_string(which) + " weights " +
                                        std::to_string(static_cast<int>(weights)),
                                    [&](const std::vector<Tensor>& in) {
                                        const Routing r = moe_routing(in[0], k, weights);
                                        if (which == 0) return std::vector<Tensor>{r.weights};
                                        if (which == 1) return std::vector<Tensor>{r.load_balancing};
                                        return std::vector<Tensor>{r.weights, r.load_balancing};
                                    },
                                    {separated_logits(tokens, experts, 13).set_requires_grad(true)});
                }
}

TEST_CASE("moe_routing: the bits depend neither on the threads nor on other tokens") {
    const int threads = thread_count();
    const Tensor logits = random_normal({1500, 4}, 14, DType::float32);
    const Tensor dweights = random_normal({1500, 2}, 15, DType::float32);
    std::vector<Tensor> seen;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        const Tensor leaf = logits.clone().set_requires_grad(true);
        const Routing r = moe_routing(leaf, 2);
        const Tensor one = Tensor::full({}, 1.0);
        backward({r.weights, r.load_balancing}, {dweights, one});
        seen.insert(seen.end(), {r.weights, r.load_balancing, leaf.grad()});
    }
    set_thread_count(threads);
    for (size_t i = 3; i < seen.size(); ++i) CHECK(bit_identical(seen[i], seen[i % 3]));
    CHECK(bit_identical(moe_routing(logits.rows(700, 701), 2).weights, seen[0].rows(700, 701)));
}

TEST_CASE("moe_routing: errors") {
    check_error("moe_routing: top_k is 3, want 1 to 2 (the number of experts)", [] {
        moe_routing(Tensor::zeros({5, 2}), 3);
    });
    check_error("moe_routing: top_k is 0, want 1 to 2 (the number of experts)", [] {
        moe_routing(Tensor::zeros({5, 2}), 0);
    });
    check_error("moe_routing: logits is [5], want 2 dims", [] { moe_routing(Tensor::zeros({5}), 1); });
    check_error("moe_routing: needs float32 or float64, has int32", [] {
        moe_routing(Tensor::zeros({5, 2}, DType::int32), 1);
    });
}

DEVICE_TEST_CASE("moe_routing: every kind of weights on every device", device) {
    for (const RouterWeights weights :
         {RouterWeights::all, RouterWeights::scaled, RouterWeights::straight_through})
        for (const int64_t k : {1, 2, 4})
            check_agrees_with_cpu(
                "top " + std::to_string(k),
                [&](const std::vector<Tensor>& in) {
                    const Routing r = moe_routing(in[0], k, weights);
                    return std::vector<Tensor>{r.weights, r.experts, r.load_balancing};
                },
                {separated_logits(65, 4, 9).set_requires_grad(true)}, device, 1e-28);
}

DEVICE_TEST_CASE("moe_routing: on every device", device) {
    for (const int64_t tokens : {0, 1, 7, 300})
        for (const int64_t experts : {1, 4, 13})
            for (const int64_t k : {1, 2, 4}) {
                if (k > experts) continue;
                const auto f = [&](const std::vector<Tensor>& in) {
                    const Routing r = moe_routing(in[0], k);
                    return std::vector<Tensor>{r.weights, r.experts, r.load_balancing};
                };
                const Tensor logits = separated_logits(tokens, experts, 9);
                for (const DType dtype : {DType::float32, DType::float64})
                    check_agrees_with_cpu(std::to_string(tokens) + "x" + std::to_string(experts), f,
                                          {logits.clone().to(dtype).set_requires_grad(true)}, device,
                                          dtype == DType::float32 ? 1e-12 : 1e-28);
            }
    check_gradients("5x4",
                    [](const std::vector<Tensor>& in) {
                        const Routing r = moe_routing(in[0], 2);
                        return std::vector<Tensor>{r.weights, r.load_balancing};
                    },
                    {separated_logits(5, 4, 10).set_requires_grad(true)}, {.device = device});
}

DEVICE_TEST_CASE("moe_routing: ties and NaN on every device", device) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const Tensor logits = Tensor::from(std::vector<double>{1, 1, 1, 1, nan, 2, 2, 0, 0, 3, 0, 3}, {3, 4});
    const Routing r = moe_routing(logits.to(device), 2);
    const std::vector<int32_t> experts = r.experts.to_vector<int32_t>();
    CHECK(experts[0] == 0);
    CHECK(experts[1] == 1);
    CHECK(experts[2] != experts[3]);
    CHECK(experts[4] == 1);
    CHECK(experts[5] == 3);
    CHECK(std::isnan(r.weights.to_vector<double>()[2]));
}
