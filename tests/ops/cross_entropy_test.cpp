#include "framework/ops/cross_entropy/cross_entropy.h"

#include <cmath>

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

TEST_CASE("cross_entropy: value against the formula") {
    for (const int64_t N : {1, 2, 7})
        for (const int64_t V : {1, 2, 31, 33, 257}) {
            const Tensor logits = random_normal({N, V}, 1, DType::float64, 3.0);
            const Tensor targets = random_tokens({N}, 2, static_cast<int32_t>(V));
            CHECK(cross_entropy(logits, targets).item() ==
                  doctest::Approx(slow_loss(logits, targets)).epsilon(1e-10));
            CHECK(cross_entropy(logits.to(DType::float32), targets).item() ==
                  doctest::Approx(slow_loss(logits, targets)).epsilon(1e-5));
            CHECK(score_predictions(logits, targets).total_loss ==
                  doctest::Approx(slow_loss(logits, targets) * static_cast<double>(N)).epsilon(1e-10));
        }
}

TEST_CASE("cross_entropy: gradients") {
    for (const int64_t N : {1, 2, 3, 7, 17})
        for (const int64_t V : {1, 2, 5, 33})
            check_gradients("N " + std::to_string(N) + " V " + std::to_string(V),
                            [&](const std::vector<Tensor>& in) {
                                return std::vector<Tensor>{
                                    cross_entropy(in[0], random_tokens({N}, 4, static_cast<int32_t>(V)))};
                            },
                            {random_normal({N, V}, 3, DType::float64, 2.0).set_requires_grad(true)});
}

TEST_CASE("cross_entropy: large logits stay finite") {
    const Tensor logits = Tensor::from(std::vector<float>{1000, -1000, 0}, {1, 3});
    CHECK(cross_entropy(logits, Tensor::from(std::vector<int32_t>{0}, {1})).item() == 0);
    CHECK(cross_entropy(logits, Tensor::from(std::vector<int32_t>{1}, {1})).item() == 2000);
}

TEST_CASE("cross_entropy: the prediction is the lowest index of the highest logit") {
    const Tensor logits = Tensor::from(std::vector<float>{1, 3, 3, 2, 0, 0, 0, 0}, {2, 4});
    CHECK(score_predictions(logits, Tensor::from(std::vector<int32_t>{1, 0}, {2})).correct == 2);
    CHECK(score_predictions(logits, Tensor::from(std::vector<int32_t>{2, 1}, {2})).correct == 0);
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
