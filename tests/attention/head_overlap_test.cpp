#include "framework/attention/scores/head_overlap.h"

#include <algorithm>
#include <cmath>

#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// A selection of min(k, t + 1) keys: only how many they are counts here.
Selection selection_of(int64_t batch, int64_t length, int64_t k) {
    return top_k_select(Tensor::zeros({batch, length, length}), k);
}

HeadOverlap overlap_of(const IndexerInput& in, double scale, int64_t k, Device device = {}) {
    const IndexerInput there = on(device, in);
    return head_overlap({there.q, there.k, there.w, scale},
                        on(device, selection_of(in.q.dim(0), in.q.dim(1), k)));
}

// Whole numbers, of which many are equal: sums are exact in float32 too.
IndexerInput whole_numbers(IndexerInput in, double factor) {
    for (const Tensor& x : {in.q, in.k, in.w})
        for (int64_t i = 0; i < x.numel(); ++i)
            x.data<double>()[i] = std::round(factor * x.data<double>()[i]);
    return in;
}

// Of one head: how often it would select each key, ties broken by lot.
std::vector<double> shares(const IndexerInput& in, double scale, int64_t b, int64_t t, int64_t head,
                           int64_t k) {
    const int64_t heads = in.q.dim(2), width = in.q.dim(3), row = b * in.q.dim(1) + t;
    std::vector<double> parts;
    for (int64_t s = 0; s <= t; ++s) {
        double dot = 0;
        for (int64_t i = 0; i < width; ++i)
            dot += in.q.data<double>()[(row * heads + head) * width + i] *
                   in.k.data<double>()[(b * in.q.dim(1) + s) * width + i];
        parts.push_back(scale * in.w.data<double>()[row * heads + head] * std::max(dot, 0.0));
    }
    std::vector<double> pi;
    for (const double part : parts) {
        double above = 0, equal = 0;
        for (const double other : parts) above += other > part, equal += other == part;
        pi.push_back(std::clamp((static_cast<double>(k) - above) / equal, 0.0, 1.0));
    }
    return pi;
}

double product(const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Pair by pair.
HeadOverlap oracle(const IndexerInput& in, double scale, int64_t k) {
    const int64_t heads = in.q.dim(2);
    double overlap = 0, most = 0, chance = 0, pairs = 0, decided = 0, chance_of_heads = 0, count = 0;
    for (int64_t b = 0; b < in.q.dim(0); ++b)
        for (int64_t t = k; t < in.q.dim(1); ++t)
            for (int64_t i = 0; i < heads; ++i) {
                const std::vector<double> one = shares(in, scale, b, t, i, k);
                decided += product(one, one) / static_cast<double>(k), ++count;
                chance_of_heads += static_cast<double>(k) / static_cast<double>(t + 1);
                for (int64_t j = 0; j < i; ++j, ++pairs) {
                    const std::vector<double> other = shares(in, scale, b, t, j, k);
                    overlap += product(one, other) / static_cast<double>(k);
                    most += std::sqrt(product(one, one) * product(other, other)) / static_cast<double>(k);
                    chance += static_cast<double>(k) / static_cast<double>(t + 1);
                }
            }
    return {.above_chance = (overlap - chance) / (most - chance),
            .decided = (decided - chance_of_heads) / (count - chance_of_heads)};
}

void check_same(double got, double want) {
    if (std::isnan(want))
        CHECK(std::isnan(got));
    else
        CHECK(got == doctest::Approx(want).epsilon(1e-9));
}

// One window of 4 tokens, two heads of one dim, w = 1; q and k as given.
HeadOverlap by_hand(const std::vector<double>& first, const std::vector<double>& second,
                    const std::vector<double>& keys, int64_t k, const std::vector<double>& w = {1, 1}) {
    std::vector<double> q, weights;
    for (size_t t = 0; t < 4; ++t) {
        q.insert(q.end(), first.begin(), first.end());
        q.insert(q.end(), second.begin(), second.end());
        weights.insert(weights.end(), w.begin(), w.end());
    }
    const auto width = static_cast<int64_t>(first.size());
    return overlap_of({Tensor::from(q, {1, 4, 2, width}), Tensor::from(keys, {1, 4, width}),
                       Tensor::from(weights, {1, 4, 2})},
                      1, k);
}

}  // namespace

DEVICE_TEST_CASE("head_overlap: against all pairs of heads in a loop, with ties of every kind", device) {
    for (const int64_t length : {0, 1, 2, 7, 33, 70})
        for (const int64_t k : {int64_t{1}, int64_t{3}, int64_t{32}, length, length + 3})
            for (const int64_t heads : {1, 2, 3, 5})
                for (const double factor : {0.0, 1.0, 4.0, 1000.0}) {
                    if (k == 0 || (is_emulated(device) && (length > 33 || heads == 3))) continue;
                    INFO("T " << length << " k " << k << " HI " << heads << " factor " << factor);
                    const IndexerInput in = whole_numbers(random_indexer(2, length, heads, 3, 5), factor);
                    const HeadOverlap want = heads > 1 && k < length ? oracle(in, 0.5, k) : HeadOverlap{};
                    const HeadOverlap got = overlap_of(in, 0.5, k, device);
                    check_same(got.above_chance, factor == 0 ? NAN : want.above_chance);
                    if (factor == 0 && !std::isnan(want.decided))
                        CHECK(std::abs(got.decided) < 1e-12);
                    else
                        check_same(got.decided, want.decided);
                    const HeadOverlap single = overlap_of(as_float32(in), 0.5, k, device);
                    if (factor < 1000) check_same(single.above_chance, got.above_chance);
                    if (heads > 1 && factor > 0)
                        check_same(overlap_of(in, -0.5, k, device).above_chance,
                                   k < length ? oracle(in, -0.5, k).above_chance : NAN);
                }
}

TEST_CASE("head_overlap: heads that agree, that avoid each other, and that say nothing") {
    const std::vector<double> keys{1, 0, 2, 0, 3, 0, 4, 0};
    // The same order of keys, whatever the size of the scores.
    CHECK(by_hand({1, 0}, {5, 0}, keys, 2).above_chance == doctest::Approx(1));
    CHECK(by_hand({1, 0}, {5, 0}, keys, 2).decided == doctest::Approx(1));
    // A weight below 0 turns it round: queries 2 and 3 choose {1, 2} and {2, 3}, the other head {0, 1}.
    CHECK(by_hand({1, 0}, {5, 0}, keys, 2, {1, -1}).above_chance ==
          doctest::Approx((0.25 - (2.0 / 3 + 0.5) / 2) / (1 - (2.0 / 3 + 0.5) / 2)));
    // All keys of the second head tie, at 0: chance, where the lowest indices would be the first head's.
    const HeadOverlap silent = by_hand({-1, 0}, {-1, 0}, keys, 2);
    CHECK(std::isnan(silent.above_chance));
    CHECK(std::abs(silent.decided) < 1e-12);
    const std::vector<double> falling{4, 0, 3, 0, 2, 0, 1, 0};
    CHECK(std::abs(by_hand({1, 0}, {-1, 0}, falling, 2).above_chance) < 1e-12);
    CHECK(by_hand({1, 0}, {-1, 0}, falling, 2).decided == doctest::Approx(0.5));
    // Ties that both heads have are agreement.
    const std::vector<double> steps{1, 0, 0, 0, 0, 0, 0, 0};
    CHECK(by_hand({1, 0}, {5, 0}, steps, 2).above_chance == doctest::Approx(1));
    CHECK(by_hand({1, 0}, {5, 0}, steps, 2).decided < 0.9);
}

TEST_CASE("head_overlap: random heads have the overlap of chance") {
    double sum = 0;
    constexpr int draws = 60;
    for (uint64_t i = 0; i < draws; ++i)
        sum += overlap_of(random_indexer(1, 64, 2, 16, 100 + 3 * i), 1, 16).above_chance / draws;
    CHECK(std::abs(sum) < 0.05);
}

TEST_CASE("head_overlap: NaN, other thread counts, and errors") {
    IndexerInput in = random_indexer(2, 90, 3, 7, 8);
    const int before = thread_count();
    set_thread_count(1);
    const HeadOverlap one = overlap_of(in, 1, 20);
    set_thread_count(2);
    const HeadOverlap two = overlap_of(in, 1, 20);
    set_thread_count(before);
    CHECK((one.above_chance == two.above_chance && one.decided == two.decided));
    in.k.data<double>()[0] = NAN;
    CHECK(std::isnan(overlap_of(in, 1, 20).above_chance));
    CHECK(std::isnan(overlap_of(in, 1, 20).decided));
    check_error("head_overlap: counts is [2,3], want [2,90], indexer q is [2,90,3,7]", [&] {
        head_overlap({in.q, in.k, in.w, 1}, selection_of(2, 3, 2));
    });
}

TEST_CASE("head_overlap: no memory of the order of T x T") {
    const int64_t length = 4096;
    const IndexerInput in = as_float32(random_indexer(1, length, 2, 4, 27));
    const Selection selection{Tensor::zeros({1, length, 16}, DType::int32),
                              Tensor::full({1, length}, 16, DType::int32)};
    reset_peak_memory();
    const int64_t before = memory_stats().live_bytes;
    head_overlap({in.q, in.k, in.w, 1}, selection);
    CHECK(memory_stats().peak_bytes - before < length * length * 4 / 5);
}
