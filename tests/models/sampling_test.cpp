#include "models/sampling.h"

#include <cmath>
#include <limits>
#include <map>

#include "framework/core/error.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor logits_of(const std::vector<double>& probabilities) {
    std::vector<double> logits;
    for (const double p : probabilities) logits.push_back(std::log(p));
    return Tensor::from(logits, {static_cast<int64_t>(logits.size())});
}

// How often each token is drawn in 20000 draws.
std::map<int32_t, double> shares(const Tensor& logits, const Sampling& sampling) {
    std::map<int32_t, double> share;
    for (uint64_t i = 0; i < 20000; ++i) share[sample_token(logits, sampling, i)] += 1.0 / 20000;
    return share;
}

void check_shares(const std::map<int32_t, double>& got, const std::map<int32_t, double>& want) {
    CHECK(got.size() == want.size());
    for (const auto& [token, share] : want) {
        INFO("token " << token);
        REQUIRE(got.count(token));
        CHECK(std::abs(got.at(token) - share) < 0.015);  // four standard deviations
    }
}

}  // namespace

TEST_CASE("sample_token: draws follow the softmax, temperature sharpens it") {
    const Tensor logits = logits_of({0.1, 0.5, 0.15, 0.25});
    check_shares(shares(logits, {.temperature = 1, .top_p = 1}), {{0, 0.1}, {1, 0.5}, {2, 0.15}, {3, 0.25}});
    // p^2, normalised
    check_shares(shares(logits, {.temperature = 0.5, .top_p = 1}),
                 {{0, 0.01 / 0.345}, {1, 0.25 / 0.345}, {2, 0.0225 / 0.345}, {3, 0.0625 / 0.345}});
}

TEST_CASE("sample_token: top_p keeps the fewest tokens that reach it") {
    const Tensor logits = logits_of({0.1, 0.5, 0.15, 0.25});
    check_shares(shares(logits, {.temperature = 1, .top_p = 0.74}), {{1, 2.0 / 3}, {3, 1.0 / 3}});
    check_shares(shares(logits, {.temperature = 1, .top_p = 0.76}),
                 {{1, 5 / 9.0}, {3, 2.5 / 9}, {2, 1.5 / 9}});
    check_shares(shares(logits, {.temperature = 1, .top_p = 1e-9}), {{1, 1}});
    // Of equals the lower index stays.
    check_shares(shares(logits_of({0.2, 0.4, 0.4}), {.temperature = 1, .top_p = 0.3}), {{1, 1}});
}

TEST_CASE("sample_token: temperature 0 takes the first of the largest") {
    const Tensor logits = Tensor::from<float>({-1, 3, 0, 3}, {4});
    for (uint64_t i = 0; i < 50; ++i) CHECK(sample_token(logits, {.temperature = 0}, i) == 1);
}

TEST_CASE("sample_token: a function of seed and number of the draw; extremes are no trap") {
    const Tensor logits = random_normal({300}, 1, DType::float32);
    std::vector<int32_t> first, second, other;
    for (uint64_t i = 0; i < 40; ++i) {
        first.push_back(sample_token(logits, {.seed = 1}, i));
        second.push_back(sample_token(logits, {.seed = 1}, i));
        other.push_back(sample_token(logits, {.seed = 2}, i));
    }
    CHECK(first == second);
    CHECK(first != other);
    const double infinity = std::numeric_limits<double>::infinity();
    const Tensor extreme = Tensor::from<double>({-infinity, 1e300, infinity, -1e300}, {4});
    CHECK(sample_token(extreme, {.temperature = 1e-300}, 0) == 2);
    CHECK(sample_token(Tensor::from<double>({-infinity, -infinity}, {2}), {.temperature = 0}, 0) == 0);
    CHECK(sample_token(Tensor::from<float>({5}, {1}), {}, 3) == 0);
}

TEST_CASE("sample_token: errors") {
    const Tensor bad = Tensor::from<double>({1, std::nan("")}, {2});
    check_error("sample_token: a logit is NaN; did the training diverge?", [&] { sample_token(bad, {}, 0); });
    check_error("sample_token: no logits", [] { sample_token(Tensor::zeros({0}), {}, 0); });
    check_error("temperature: -1, want at least 0", [] { validate(Sampling{.temperature = -1}); });
    check_error("temperature: nan, want at least 0", [] { validate(Sampling{.temperature = std::nan("")}); });
    check_error("top_p: 0, want 0 < top_p <= 1", [] { validate(Sampling{.top_p = 0}); });
    check_error("top_p: 1.5, want 0 < top_p <= 1", [] { validate(Sampling{.top_p = 1.5}); });
}
