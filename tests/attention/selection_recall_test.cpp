#include "framework/attention/selection/selection_recall.h"

#include <algorithm>
#include <cmath>

#include "framework/attention/scores/tied_scores.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Selection selection_of(const std::vector<int32_t>& indices) {
    return {Tensor::from(indices, {1, 4, 2}), Tensor::from(std::vector<int32_t>{1, 2, 2, 2}, {1, 4})};
}

Selection random_selection(int64_t batch, int64_t length, int64_t k, uint64_t seed) {
    return top_k_select(random_normal({batch, length, length}, seed), k);
}

// By membership of each key.
double share_found(const std::vector<int32_t>& reference, const std::vector<int32_t>& keys) {
    double found = 0;
    for (const int32_t s : reference) found += static_cast<double>(std::count(keys.begin(), keys.end(), s));
    return found / static_cast<double>(reference.size());
}

// The mean of share(b, t) over the queries with a choice among `k` keys.
template <class Share>
double mean_over_choices(int64_t batch, int64_t length, int64_t k, const Share& share) {
    double sum = 0, rows = 0;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = k; t < length; ++t, ++rows) sum += share(b, t);
    return sum / rows;
}

void check_same(double got, double want) {
    if (std::isnan(want))
        CHECK(std::isnan(got));
    else
        CHECK(got == doctest::Approx(want).epsilon(1e-12));
}

constexpr int64_t batch = 2;
const std::vector<int64_t> lengths = {0, 1, 2, 7, 31, 33};
std::vector<int64_t> ks_for(int64_t length) {
    return {1, 3, 8, length, length + 3};
}

}  // namespace

TEST_CASE("selection_recall: shared keys of the rows that have a choice") {
    const Selection a = selection_of({0, 0, 0, 1, 0, 2, 1, 3});
    CHECK(selection_recall(a, a) == 1);
    CHECK(selection_recall(a, selection_of({0, 0, 0, 1, 1, 2, 1, 3})) == 0.75);
    CHECK(selection_recall(a, selection_of({0, 0, 0, 1, 1, 2, 0, 2})) == 0.25);
    const Selection none{Tensor::zeros({1, 2, 2}, DType::int32), Tensor::zeros({1, 2}, DType::int32)};
    check_error("selection_recall: selections are of [1,4] and [1,2] queries, want one shape",
                [&] { selection_recall(a, none); });
}

DEVICE_TEST_CASE("selection_recall: against a loop, also of another number of keys", device) {
    for (const int64_t length : lengths)
        for (const int64_t k : ks_for(length))
            for (const int64_t other_k : ks_for(length)) {
                if (k == 0 || other_k == 0) continue;
                INFO("T " << length << " k " << k << ", " << other_k);
                const Selection reference = random_selection(batch, length, k, 1),
                                other = random_selection(batch, length, other_k, 2);
                const double want = mean_over_choices(batch, length, other_k, [&](int64_t b, int64_t t) {
                    return share_found(chosen(reference, b, t), chosen(other, b, t));
                });
                check_same(selection_recall(on(device, reference), on(device, other)), want);
            }
}

DEVICE_TEST_CASE("selections: successive queries, key 0 and chance, against loops", device) {
    for (const int64_t length : lengths)
        for (const int64_t k : ks_for(length)) {
            if (k == 0) continue;
            INFO("T " << length << " k " << k);
            const Selection selection = random_selection(batch, length, k, 3);
            check_same(successive_recall(on(device, selection)),
                       mean_over_choices(batch, length, k, [&](int64_t b, int64_t t) {
                           return share_found(chosen(selection, b, t - 1), chosen(selection, b, t));
                       }));
            check_same(first_key_share(on(device, selection)),
                       mean_over_choices(batch, length, k, [&](int64_t b, int64_t t) {
                           return share_found({0}, chosen(selection, b, t));
                       }));
            check_same(chance_recall(on(device, selection)),
                       mean_over_choices(batch, length, k, [&](int64_t, int64_t t) {
                           return static_cast<double>(k) / static_cast<double>(t + 1);
                       }));
        }
}

// The baseline that the headers state: random selections share |S_t| / (t + 1) with anything.
TEST_CASE("selections: random keys have the shares of chance") {
    const int64_t length = 40, k = 7;
    const double chance = mean_over_choices(
        1, length, k, [](int64_t, int64_t t) { return static_cast<double>(k) / static_cast<double>(t + 1); });
    double recall = 0, successive = 0, first = 0;
    constexpr int draws = 400;
    const Selection fixed = random_selection(1, length, 3, 9);
    for (uint64_t i = 0; i < draws; ++i) {
        const Selection random = random_selection(1, length, k, 100 + i);
        recall += selection_recall(fixed, random) / draws;
        successive += successive_recall(random) / draws;
        first += first_key_share(random) / draws;
    }
    CHECK(std::abs(recall - chance) < 0.01);
    CHECK(std::abs(successive - chance) < 0.01);
    CHECK(std::abs(first - chance) < 0.02);
}

DEVICE_TEST_CASE("tied_share: against a loop over all pairs, with keys that repeat and scores of zero",
                 device) {
    for (const int64_t length : lengths)
        for (const int64_t k : ks_for(length))
            for (const int64_t distinct : {int64_t{1}, int64_t{5}, length + 1}) {
                if (k == 0) continue;
                INFO("T " << length << " k " << k << ", different keys " << distinct);
                const IndexerInput in = random_indexer(batch, length, 3, 5, 4);
                // Small whole numbers: sums are exact, so that the loop's float64 has the kernel's ties.
                for (const Tensor& x : {in.q, in.k, in.w})
                    for (int64_t i = 0; i < x.numel(); ++i)
                        x.data<double>()[i] = std::round(4 * x.data<double>()[i]);
                for (int64_t row = 0; row < batch * length; ++row)
                    std::copy_n(in.k.data<double>() + (row / length * length + row % length % distinct) * 5,
                                5, in.k.data<double>() + row * 5);
                const Selection selection = top_k_select(oracle_scores(in, 1), k);
                double tied = 0, selected = 0;
                for (int64_t b = 0; b < batch; ++b)
                    for (int64_t t = k; t < length; ++t)
                        for (const int32_t s : chosen(selection, b, t)) {
                            int equal = 0;
                            for (const int32_t other : chosen(selection, b, t))
                                equal += oracle_score(in, 1, b, t, s) == oracle_score(in, 1, b, t, other);
                            tied += equal > 1;
                            ++selected;
                        }
                for (const IndexerInput& operands : {in, as_float32(in)}) {
                    const IndexerInput there = on(device, operands);
                    check_same(tied_share({there.q, there.k, there.w, 0.7}, on(device, selection)),
                               tied / selected);
                }
                if (distinct == 1 && k > 1 && k < length) CHECK(tied == selected);
            }
    const IndexerInput in = random_indexer(1, 4, 1, 2, 1);
    check_error("tied_share: counts is [1,3], want [1,4], indexer q is [1,4,1,2]", [&] {
        tied_share({in.q, in.k, in.w, 1}, random_selection(1, 3, 2, 1));
    });
}

// -0 and 0 are one score, and NaN is no reason to sort forever.
TEST_CASE("tied_share: signed zeros tie, NaN is harmless") {
    const Tensor q = Tensor::full({1, 3, 1, 1}, 1), k = Tensor::full({1, 3, 1}, -1),
                 w = Tensor::full({1, 3, 1}, 1);
    const Selection selection = random_selection(1, 3, 2, 1);
    CHECK(tied_share({q, k, w, 1}, selection) == 1);
    for (int i = 0; i < 3; ++i) w.data<float>()[i] = i % 2 ? -1.0f : 1.0f;
    CHECK(tied_share({q, k, w, 1}, selection) == 1);
    k.data<float>()[1] = std::numeric_limits<float>::quiet_NaN();
    tied_share({q, k, w, 1}, selection);
}
