#include "framework/ops/grouped_linear/grouped_linear.h"

#include "framework/autograd/autograd.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"
#include "framework/ops/moe_dispatch/moe_dispatch.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// A plan whose expert e owns rows[e] rows: one choice per token.
DispatchPlan plan_of(const std::vector<int32_t>& rows) {
    std::vector<int32_t> choice;
    for (size_t e = 0; e < rows.size(); ++e)
        choice.insert(choice.end(), static_cast<size_t>(rows[e]), static_cast<int32_t>(e));
    const int64_t n = static_cast<int64_t>(choice.size());
    return plan_dispatch(Tensor::from(choice, {n, 1}), static_cast<int64_t>(rows.size()));
}

std::vector<Tensor> random_weights(size_t experts, int64_t out, int64_t in, uint64_t seed,
                                   DType dtype = DType::float64) {
    std::vector<Tensor> weights;
    for (size_t e = 0; e < experts; ++e) weights.push_back(random_normal({out, in}, seed + e, dtype));
    return weights;
}

std::vector<Tensor> to_single(const std::vector<Tensor>& tensors) {
    std::vector<Tensor> result;
    for (const Tensor& t : tensors) result.push_back(t.to(DType::float32));
    return result;
}

const std::vector<std::vector<int32_t>> loads = {
    {5}, {0}, {3, 4}, {0, 7}, {7, 0}, {2, 0, 5}, {0, 0, 1}, {31, 1, 33}, {1, 0, 2, 0, 0, 3, 1, 0}};

}  // namespace

TEST_CASE("grouped_linear: each row meets its own expert's weight") {
    for (const auto& load : loads) {
        const DispatchPlan plan = plan_of(load);
        const Tensor x = random_normal({plan.slots(), 7}, 31);
        const std::vector<Tensor> weights = random_weights(load.size(), 5, 7, 32);
        const Tensor y = grouped_linear(x, plan, weights);
        int64_t row = 0;
        for (size_t e = 0; e < load.size(); ++e)
            for (int32_t r = 0; r < load[e]; ++r, ++row)
                for (int64_t o = 0; o < 5; ++o) {
                    double want = 0;
                    for (int64_t i = 0; i < 7; ++i)
                        want += x.data<double>()[row * 7 + i] * weights[e].data<double>()[o * 7 + i];
                    CHECK(y.data<double>()[row * 5 + o] == doctest::Approx(want).epsilon(1e-12));
                }
        CHECK(relative_difference(grouped_linear(x.to(DType::float32), plan, to_single(weights)), y) < 1e-5);
    }
}

TEST_CASE("grouped_linear: gradients") {
    for (const auto& load : loads) {
        const DispatchPlan plan = plan_of(load);
        std::vector<Tensor> inputs{random_normal({plan.slots(), 3}, 33).set_requires_grad(true)};
        for (const Tensor& w : random_weights(load.size(), 4, 3, 34))
            inputs.push_back(w.set_requires_grad(true));
        check_gradients(
            "load of " + std::to_string(load.size()) + " experts, " + std::to_string(plan.slots()) + " rows",
            [&](const std::vector<Tensor>& in) {
                return std::vector<Tensor>{grouped_linear(in[0], plan, {in.begin() + 1, in.end()})};
            },
            inputs);
    }
}

TEST_CASE("grouped_linear: an expert without rows gets a gradient of zeros, a frozen one none") {
    const DispatchPlan plan = plan_of({2, 0, 1});
    const std::vector<Tensor> weights = random_weights(3, 4, 3, 35);
    weights[0].set_requires_grad(true);
    weights[1].set_requires_grad(true);
    const Tensor x = random_normal({3, 3}, 36);
    backward({grouped_linear(x, plan, weights)}, {random_normal({3, 4}, 37)});
    REQUIRE(weights[1].grad().defined());
    for (const double g : weights[1].grad().to_vector<double>()) CHECK(g == 0.0);
    CHECK(max_abs_difference(weights[0].grad(), Tensor::zeros({4, 3}, DType::float64)) > 0.1);
    CHECK(!weights[2].grad().defined());
    CHECK(!x.grad().defined());
}

TEST_CASE("grouped_linear: the bits do not depend on the threads") {
    const int threads = thread_count();
    const DispatchPlan plan = plan_of({300, 0, 213});
    std::vector<Tensor> seen;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        const Tensor x = random_normal({513, 64}, 38, DType::float32).set_requires_grad(true);
        const std::vector<Tensor> weights = random_weights(3, 96, 64, 39, DType::float32);
        for (const Tensor& w : weights) w.set_requires_grad(true);
        const Tensor y = grouped_linear(x, plan, weights);
        backward({y}, {random_normal({513, 96}, 40, DType::float32)});
        seen.insert(seen.end(), {y, x.grad(), weights[0].grad(), weights[2].grad()});
    }
    set_thread_count(threads);
    for (size_t i = 4; i < seen.size(); ++i) CHECK(bit_identical(seen[i], seen[i % 4]));
}

TEST_CASE("grouped_linear: errors") {
    const DispatchPlan plan = plan_of({2, 1});
    const auto w = [](int64_t out, int64_t in, DType dtype = DType::float32) {
        return Tensor::zeros({out, in}, dtype);
    };
    check_error("grouped_linear: x is [4,5], want [3,5], one row per slot of the plan", [&] {
        grouped_linear(Tensor::zeros({4, 5}), plan, {w(2, 5), w(2, 5)});
    });
    for (const auto& [at, value, want] : {std::tuple{0, 1, "0 to 0"},
                                          {1, 4, "0 to 3"},
                                          {1, -1, "0 to 3"},
                                          {2, 2, "3 to 3"},
                                          {2, 4, "3 to 3"}}) {
        DispatchPlan broken = plan;
        broken.offsets = plan.offsets.clone();
        broken.offsets.data<int64_t>()[at] = value;
        check_error("grouped_linear: the plan's offset " + std::to_string(at) + " is " +
                        std::to_string(value) + ", want " + want,
                    [&] {
                        grouped_linear(Tensor::zeros({3, 5}), broken, {w(2, 5), w(2, 5)});
                    });
    }
    check_error("grouped_linear: 1 weights for a plan of 2 experts", [&] {
        grouped_linear(Tensor::zeros({3, 5}), plan, {w(2, 5)});
    });
    check_error("grouped_linear: weight 1 is [3,5], want [2,5], for x [3,5]", [&] {
        grouped_linear(Tensor::zeros({3, 5}), plan, {w(2, 5), w(3, 5)});
    });
    check_error("grouped_linear: weight 0 is [2,4], want [2,5], for x [3,5]", [&] {
        grouped_linear(Tensor::zeros({3, 5}), plan, {w(2, 4), w(2, 5)});
    });
    check_error("grouped_linear: weight 1 is float64, want float32", [&] {
        grouped_linear(Tensor::zeros({3, 5}), plan, {w(2, 5), w(2, 5, DType::float64)});
    });
}

DEVICE_TEST_CASE("grouped_linear: on every device", device) {
    const Precision precisions[] = {Precision::fp32, Precision::tf32, Precision::bf16};
    for (const int64_t tokens : {0, 1, 7, 150})
        for (const int64_t in : {1, 33, 70})
            for (const int64_t out : {3, 65}) {
                const int32_t experts = 3;
                const Tensor chosen = random_tokens({tokens, 1}, 5, experts);
                const auto f = [&](const std::vector<Tensor>& t) {
                    const DispatchPlan plan = plan_dispatch(t[1], experts);
                    return std::vector<Tensor>{grouped_linear(t[0], plan, {t[2], t[3], t[4]})};
                };
                const auto inputs = [&](DType dtype) {
                    const auto leaf = [&](const Shape& shape, uint64_t seed) {
                        return random_normal(shape, seed, dtype).set_requires_grad(true);
                    };
                    return std::vector<Tensor>{leaf({tokens, in}, 1), chosen, leaf({out, in}, 2),
                                               leaf({out, in}, 3), leaf({out, in}, 4)};
                };
                const std::string what =
                    std::to_string(tokens) + " tokens " + std::to_string(in) + " to " + std::to_string(out);
                check_agrees_with_cpu(what + " float64", f, inputs(DType::float64), device, 1e-28);
                const double bounds[] = {1e-12, 1e-5, 3e-4};
                for (size_t p = 0; p < 3; ++p) {
                    set_precision(precisions[p]);
                    check_agrees_with_cpu(what + " precision " + std::to_string(p), f, inputs(DType::float32),
                                          device, bounds[p]);
                }
                set_precision(Precision::fp32);
            }
}

DEVICE_TEST_CASE("grouped_linear: a row's bits do not depend on where it lies", device) {
    const int64_t rows = 90, in = 40, out = 50;
    const Tensor x = random_normal({rows, in}, 1, DType::float32),
                 w = random_normal({out, in}, 2, DType::float32);
    const auto run = [&](int64_t first) {
        const int64_t n = rows - first;
        const Tensor part = x.rows(first, rows).clone().to(device);
        const DispatchPlan plan = plan_dispatch(Tensor::zeros({n, 1}, DType::int32, device), 1);
        return grouped_linear(part, plan, {w.to(device)}).to(Device{});
    };
    for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
        set_precision(precision);
        const Tensor whole = run(0);
        for (const int64_t first : {1, 17, 64}) CHECK(bit_identical(run(first), whole.rows(first, rows)));
    }
    set_precision(Precision::fp32);
}
