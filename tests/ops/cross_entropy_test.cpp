#include "framework/ops/cross_entropy/cross_entropy.h"

#include <cmath>
#include <limits>

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

double slow_loss(const Tensor& logits, const Tensor& targets) {
    const int64_t N = logits.dim(0), V = logits.dim(1);
    double total = 0;
    for (int64_t n = 0; n < N; ++n) {
        double sum = 0;
        for (int64_t v = 0; v < V; ++v) sum += std::exp(logits.data<double>()[n * V + v]);
        total -= std::log(std::exp(logits.data<double>()[n * V + targets.data<int32_t>()[n]]) / sum);
    }
    return total / static_cast<double>(N);
}

}  // namespace

DEVICE_TEST_CASE("cross_entropy: value against the formula", device) {
    for (const int64_t N : {1, 2, 7})
        for (const int64_t V : {1, 2, 31, 33, 257}) {
            const Tensor logits = random_normal({N, V}, 1, DType::float64, 3.0);
            const Tensor tokens = random_tokens({N}, 2, static_cast<int32_t>(V)), targets = tokens.to(device);
            const double want = slow_loss(logits, tokens);
            CHECK(cross_entropy(logits.to(device), targets).item() == doctest::Approx(want).epsilon(1e-10));
            CHECK(cross_entropy(logits.to(DType::float32).to(device), targets).item() ==
                  doctest::Approx(want).epsilon(1e-5));
            CHECK(score_predictions(logits.to(device), targets).total_loss ==
                  doctest::Approx(want * static_cast<double>(N)).epsilon(1e-10));
            const Tensor losses = score_predictions(logits.to(device), targets).losses.to(Device{});
            for (int64_t n = 0; n < N; ++n)
                CHECK(
                    losses.data<double>()[n] ==
                    doctest::Approx(slow_loss(logits.rows(n, n + 1), tokens.rows(n, n + 1))).epsilon(1e-10));
        }
}

DEVICE_TEST_CASE("cross_entropy: gradients", device) {
    for (const int64_t N : {1, 2, 3, 7, 17})
        for (const int64_t V : {1, 2, 5, 33}) {
            if (is_emulated(device) && N * V > 40) continue;
            check_gradients("N " + std::to_string(N) + " V " + std::to_string(V),
                            [&](const std::vector<Tensor>& in) {
                                const Tensor targets = random_tokens({N}, 4, static_cast<int32_t>(V));
                                return std::vector<Tensor>{cross_entropy(in[0], targets.to(device))};
                            },
                            {random_normal({N, V}, 3, DType::float64, 2.0).set_requires_grad(true)},
                            {.device = device});
        }
}

DEVICE_TEST_CASE("cross_entropy: narrow and wide rows, with packs and without", device) {
    const auto f = [](const std::vector<Tensor>& in) {
        return std::vector<Tensor>{cross_entropy(in[0], in[1])};
    };
    for (const int64_t N : {1, 9, 1500})
        for (const int64_t V : {4, 33, 1024, 1028, 4099}) {
            if (N * V > (is_emulated(device) ? 5000 : 7000000)) continue;
            const Tensor logits = random_normal({N, V}, 5, DType::float64, 3.0);
            const Tensor targets = random_tokens({N}, 6, static_cast<int32_t>(V));
            for (const DType dtype : {DType::float32, DType::float64}) {
                const Tensor x = logits.clone().to(dtype).set_requires_grad(true);
                check_agrees_with_cpu("N " + std::to_string(N) + " V " + std::to_string(V), f, {x, targets},
                                      device, dtype == DType::float32 ? 1e-11 : 1e-26);
                const TokenPredictions want = score_predictions(x, targets),
                                       got = score_predictions(x.to(device), targets.to(device));
                CHECK(got.correct == want.correct);
                CHECK(got.total_loss == doctest::Approx(want.total_loss).epsilon(1e-5));
            }
        }
}

DEVICE_TEST_CASE("cross_entropy: large logits stay finite", device) {
    const Tensor logits = Tensor::from(std::vector<float>{1000, -1000, 0}, {1, 3}, device);
    const auto loss = [&](int32_t t) {
        return cross_entropy(logits, Tensor::from(std::vector<int32_t>{t}, {1}, device)).item();
    };
    CHECK(loss(0) == 0);
    CHECK(loss(1) == 2000);
}

DEVICE_TEST_CASE("cross_entropy: what is not finite makes the loss so; -inf for another class does not",
                 device) {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    const auto loss = [&](const std::vector<float>& row, int32_t target) {
        return cross_entropy(Tensor::from(row, {1, static_cast<int64_t>(row.size())}, device),
                             Tensor::from(std::vector<int32_t>{target}, {1}, device))
            .item();
    };
    CHECK(loss({-inf, 1, 1, -inf, -inf}, 2) == doctest::Approx(std::log(2.0)));
    CHECK(loss({-inf, 1, 1}, 0) == inf);
    CHECK(std::isnan(loss({1, inf, 2}, 0)));
    CHECK(std::isnan(loss({1, nan, 2}, 0)));
    CHECK(std::isnan(loss({-inf, -inf}, 0)));
}

DEVICE_TEST_CASE("cross_entropy: the prediction is the lowest index of the highest logit", device) {
    const auto correct = [&](const std::vector<float>& logits, const std::vector<int32_t>& targets) {
        const auto N = static_cast<int64_t>(targets.size()), V = static_cast<int64_t>(logits.size()) / N;
        return score_predictions(Tensor::from(logits, {N, V}, device), Tensor::from(targets, {N}, device))
            .correct;
    };
    CHECK(correct({1, 3, 3, 2, 0, 0, 0, 0}, {1, 0}) == 2);
    CHECK(correct({1, 3, 3, 2, 0, 0, 0, 0}, {2, 1}) == 0);
    const float inf = std::numeric_limits<float>::infinity();
    CHECK(correct({-inf, -inf, -inf}, {0}) == 1);
    std::vector<float> wide(2000, 0.0f);
    wide[1999] = wide[1500] = wide[700] = 1.0f;
    CHECK(correct(wide, {700}) == 1);
    CHECK(correct(wide, {1500}) == 0);
}

DEVICE_TEST_CASE("cross_entropy: on CUDA a target outside the classes makes its row NaN", device) {
    if (device.is_cpu()) return;
    for (const int32_t target : {-1, 3, 1 << 30}) {
        const Tensor targets = Tensor::from(std::vector<int32_t>{0, target}, {2}, device);
        const Tensor logits = Tensor::zeros({2, 3}, DType::float32, device).set_requires_grad(true);
        const Tensor loss = cross_entropy(logits, targets);
        CHECK(std::isnan(loss.item()));
        backward(loss);
    }
}

TEST_CASE("cross_entropy: errors") {
    const auto one = [](int32_t t) { return Tensor::from(std::vector<int32_t>{t}, {1}); };
    check_error("cross_entropy: target 3 at row 0 is outside the 3 classes", [&] {
        cross_entropy(Tensor::zeros({1, 3}), one(3));
    });
    check_error("cross_entropy: targets is [1], want [2], the rows of logits [2,3]", [&] {
        cross_entropy(Tensor::zeros({2, 3}), one(0));
    });
    check_error("cross_entropy: logits are [0,3], want at least one row and one class", [] {
        cross_entropy(Tensor::zeros({0, 3}), Tensor::zeros({0}, DType::int32));
    });
}

DEVICE_TEST_CASE("cross_entropy: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("cross_entropy: targets is on cpu, want cuda:0, where logits is", [&] {
        cross_entropy(Tensor::zeros({1, 3}, DType::float32, device), Tensor::zeros({1}, DType::int32));
    });
}
