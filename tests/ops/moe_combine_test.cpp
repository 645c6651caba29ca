#include "framework/ops/moe_combine/moe_combine.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "framework/ops/grouped_linear/grouped_linear.h"
#include "framework/ops/moe_dispatch/moe_dispatch.h"
#include "framework/ops/moe_routing/moe_routing.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

DispatchPlan random_plan(int64_t tokens, int64_t experts, int64_t k, uint64_t seed) {
    return plan_dispatch(moe_routing(random_normal({tokens, experts}, seed), k).experts, experts);
}

// The test's own activation, x sigmoid(x), so that the composition stands on the ops under test alone.
Tensor activation(const Tensor& x) {
    const Tensor y = Tensor::empty(x.shape(), x.dtype());
    for (int64_t i = 0; i < x.numel(); ++i)
        y.data<double>()[i] = x.data<double>()[i] / (1 + std::exp(-x.data<double>()[i]));
    record("activation", {x}, {y}, [x](const std::vector<Tensor>& dy) {
        const Tensor dx = Tensor::empty(x.shape(), x.dtype());
        for (int64_t i = 0; i < x.numel(); ++i) {
            const double v = x.data<double>()[i], s = 1 / (1 + std::exp(-v));
            dx.data<double>()[i] = dy[0].data<double>()[i] * s * (1 + v * (1 - s));
        }
        return std::vector<Tensor>{dx};
    });
    return y;
}

struct Experts {
    Tensor gate;                        // [E,d]
    std::vector<Tensor> first, second;  // E of [ff,d], E of [d,ff]
};

Experts experts_from(const std::vector<Tensor>& in, int64_t experts) {
    return {in[1], {in.begin() + 2, in.begin() + 2 + experts}, {in.begin() + 2 + experts, in.end()}};
}

// x, gate, first weights, second weights
std::vector<Tensor> random_inputs(int64_t tokens, int64_t experts, int64_t d, int64_t ff, uint64_t seed) {
    std::vector<Tensor> in{random_normal({tokens, d}, seed), random_normal({experts, d}, seed + 1)};
    for (int64_t e = 0; e < experts; ++e)
        in.push_back(random_normal({ff, d}, seed + 10 + static_cast<uint64_t>(e)));
    for (int64_t e = 0; e < experts; ++e)
        in.push_back(random_normal({d, ff}, seed + 50 + static_cast<uint64_t>(e)));
    for (const Tensor& t : in) t.set_requires_grad(true);
    return in;
}

std::vector<Tensor> mixture(const Tensor& x, const Experts& w, int64_t top_k) {
    const int64_t experts = w.gate.dim(0);
    const DispatchPlan all_to_gate = plan_dispatch(Tensor::zeros({x.dim(0), 1}, DType::int32), 1);
    const Routing r = moe_routing(grouped_linear(x, all_to_gate, {w.gate}), top_k);
    const DispatchPlan plan = plan_dispatch(r.experts, experts);
    const Tensor hidden = activation(grouped_linear(moe_dispatch(x, plan), plan, w.first));
    return {moe_combine(grouped_linear(hidden, plan, w.second), r.weights, plan), r.load_balancing};
}

double dot(const double* a, const double* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

// What expert e makes of one row, added to out with a weight.
void add_expert(const double* x, const Tensor& first, const Tensor& second, double weight, double* out) {
    const int64_t ff = first.dim(0), d = first.dim(1);
    std::vector<double> hidden(static_cast<size_t>(ff));
    for (int64_t f = 0; f < ff; ++f) {
        const double v = dot(x, first.data<double>() + f * d, d);
        hidden[static_cast<size_t>(f)] = v / (1 + std::exp(-v));
    }
    for (int64_t i = 0; i < d; ++i) out[i] += weight * dot(second.data<double>() + i * ff, hidden.data(), ff);
}

// Every expert sees every token, and a mask keeps those that fewer than top_k experts outrank.
Tensor dense_mixture(const Tensor& x, const Experts& w, int64_t top_k) {
    const int64_t tokens = x.dim(0), d = x.dim(1), experts = w.gate.dim(0);
    const Tensor out = Tensor::zeros({tokens, d}, DType::float64);
    for (int64_t n = 0; n < tokens; ++n) {
        const double* row = x.data<double>() + n * d;
        std::vector<double> logit, mask;
        for (int64_t e = 0; e < experts; ++e) logit.push_back(dot(row, w.gate.data<double>() + e * d, d));
        double sum = 0;
        for (size_t e = 0; e < logit.size(); ++e) {
            int64_t better = 0;
            for (size_t o = 0; o < logit.size(); ++o)
                better += logit[o] > logit[e] || (logit[o] == logit[e] && o < e);
            mask.push_back(better < top_k ? 1.0 : 0.0);
            sum += mask[e] * std::exp(logit[e]);
        }
        for (size_t e = 0; e < logit.size(); ++e)
            add_expert(row, w.first[e], w.second[e], mask[e] * std::exp(logit[e]) / sum,
                       out.data<double>() + n * d);
    }
    return out;
}

}  // namespace

TEST_CASE("moe_combine: values against the formula") {
    for (const int64_t tokens : {0, 1, 7, 33})
        for (const int64_t k : {1, 2, 3})
            for (const int64_t width : {0, 1, 5, 33}) {
                const DispatchPlan plan = random_plan(tokens, 3, k, 41);
                const Tensor y = random_normal({tokens * k, width}, 42), w = random_normal({tokens, k}, 43);
                const Tensor out = moe_combine(y, w, plan);
                REQUIRE(out.shape() == Shape{tokens, width});
                for (int64_t n = 0; n < tokens; ++n)
                    for (int64_t i = 0; i < width; ++i) {
                        double want = 0;
                        for (int64_t j = 0; j < k; ++j)
                            want += w.data<double>()[n * k + j] *
                                    y.data<double>()[plan.position.data<int32_t>()[n * k + j] * width + i];
                        CHECK(out.data<double>()[n * width + i] == doctest::Approx(want).epsilon(1e-12));
                    }
                CHECK(relative_difference(moe_combine(y.to(DType::float32), w.to(DType::float32), plan),
                                          out) < 1e-6);
            }
}

TEST_CASE("moe_combine: gradients") {
    for (const int64_t tokens : {0, 1, 2, 7, 33})
        for (const int64_t k : {1, 2, 3})
            for (const int64_t width : {1, 5, 17}) {
                const DispatchPlan plan = random_plan(tokens, 3, k, 44);
                check_gradients("tokens " + std::to_string(tokens) + " top_k " + std::to_string(k) +
                                    " width " + std::to_string(width),
                                [&](const std::vector<Tensor>& in) {
                                    return std::vector<Tensor>{moe_combine(in[0], in[1], plan)};
                                },
                                {random_normal({tokens * k, width}, 45).set_requires_grad(true),
                                 random_normal({tokens, k}, 46).set_requires_grad(true)});
            }
}

TEST_CASE("moe_combine: no gradient is computed for what needs none") {
    const DispatchPlan plan = random_plan(3, 3, 2, 47);
    const Tensor y = random_normal({6, 4}, 48), w = random_normal({3, 2}, 49).set_requires_grad(true);
    backward({moe_combine(y, w, plan)}, {random_normal({3, 4}, 50)});
    CHECK(w.grad().defined());
    CHECK(!y.grad().defined());
    const Tensor y2 = y.clone().set_requires_grad(true), w2 = w.clone();
    backward({moe_combine(y2, w2, plan)}, {random_normal({3, 4}, 50)});
    CHECK(y2.grad().defined());
    CHECK(!w2.grad().defined());
}

TEST_CASE("moe_combine: the bits do not depend on the threads") {
    const int threads = thread_count();
    const DispatchPlan plan = random_plan(1000, 4, 2, 51);
    std::vector<Tensor> seen;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        const Tensor y = random_normal({2000, 65}, 52, DType::float32).set_requires_grad(true);
        const Tensor w = random_normal({1000, 2}, 53, DType::float32).set_requires_grad(true);
        const Tensor out = moe_combine(y, w, plan);
        backward({out}, {random_normal({1000, 65}, 54, DType::float32)});
        seen.insert(seen.end(), {out, y.grad(), w.grad()});
    }
    set_thread_count(threads);
    for (size_t i = 3; i < seen.size(); ++i) CHECK(bit_identical(seen[i], seen[i % 3]));
}

TEST_CASE("moe_combine: errors") {
    const DispatchPlan plan = plan_dispatch(Tensor::from(std::vector<int32_t>{0, 2, 1, 0}, {2, 2}), 3);
    check_error("moe_combine: y is [3,5], want [4,5], one row per slot of the plan", [&] {
        moe_combine(Tensor::zeros({3, 5}), Tensor::zeros({2, 2}), plan);
    });
    check_error("moe_combine: weights is [4,1], want [2,2], the plan's tokens and choices", [&] {
        moe_combine(Tensor::zeros({4, 5}), Tensor::zeros({4, 1}), plan);
    });
    DispatchPlan broken = plan;
    broken.position = plan.position.clone();
    broken.position.data<int32_t>()[3] = 1 << 30;
    check_error("moe_combine: the plan's position of slot 3 is 1073741824, want 0 to 3", [&] {
        moe_combine(Tensor::zeros({4, 5}), Tensor::zeros({2, 2}), broken);
    });
    check_error("moe_combine: weights is float64, want float32", [&] {
        moe_combine(Tensor::zeros({4, 5}), Tensor::zeros({2, 2}, DType::float64), plan);
    });
}

TEST_CASE("mixture of experts: the four ops together equal all experts computed densely and masked") {
    for (const int64_t tokens : {0, 1, 2, 7, 33})
        for (const int64_t experts : {1, 2, 3, 8})
            for (int64_t k = 1; k <= experts; ++k) {
                const Experts w = experts_from(random_inputs(tokens, experts, 4, 5, 61), experts);
                const Tensor x = random_normal({tokens, 4}, 60);
                CHECK(relative_difference(mixture(x, w, k)[0], dense_mixture(x, w, k)) < 1e-12);
            }
}

TEST_CASE("mixture of experts: gradients of the four ops together") {
    // With 8 experts and 1 or 2 tokens most experts receive nothing.
    for (const int64_t tokens : {1, 2, 7})
        for (const int64_t experts : {1, 2, 3, 8})
            for (const int64_t k : {int64_t{1}, std::min<int64_t>(2, experts), experts})
                check_gradients(
                    "tokens " + std::to_string(tokens) + " experts " + std::to_string(experts) + " top_k " +
                        std::to_string(k),
                    [&](const std::vector<Tensor>& in) {
                        return mixture(in[0], experts_from(in, experts), k);
                    },
                    random_inputs(tokens, experts, 3, 4, 62));
}

TEST_CASE("mixture of experts: a token's output does not depend on the tokens after it") {
    const Experts w = experts_from(random_inputs(1, 4, 8, 16, 63), 4);
    const Tensor x = random_normal({33, 8}, 64);
    const Tensor whole = mixture(x, w, 2)[0];
    for (const int64_t n : {1, 2, 17, 32})
        CHECK(bit_identical(mixture(x.rows(0, n), w, 2)[0], whole.rows(0, n)));
}

DEVICE_TEST_CASE("moe_combine: on every device", device) {
    for (const int64_t tokens : {0, 1, 7, 65})
        for (const int64_t k : {1, 2, 3}) {
            const auto f = [&](const std::vector<Tensor>& in) {
                return std::vector<Tensor>{moe_combine(in[0], in[1], plan_dispatch(in[2], 4))};
            };
            const Tensor y = random_normal({tokens * k, 33}, 1), w = random_normal({tokens, k}, 2);
            const Tensor chosen = random_tokens({tokens, k}, 3, 4);
            for (const DType dtype : {DType::float32, DType::float64})
                check_agrees_with_cpu(std::to_string(tokens) + " tokens, top " + std::to_string(k), f,
                                      {y.clone().to(dtype).set_requires_grad(true),
                                       w.clone().to(dtype).set_requires_grad(true), chosen},
                                      device, dtype == DType::float32 ? 1e-12 : 1e-28);
        }
}
