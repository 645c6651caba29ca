#include "framework/data/windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "framework/core/error.h"
#include "framework/data/batches.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

BatchSource source_of(int64_t n, int64_t seq_len, int64_t batch_size, uint64_t seed,
                      Protocol protocol = Protocol::heldout) {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    std::iota(tokens.begin(), tokens.end(), 0);  // each token names its place
    return {std::make_shared<const TokenStore>(tokens), make_windows(n, seq_len, protocol, 0.1, seed, "x"),
            batch_size, seed};
}

// The first tokens of a batch's rows: with the tokens of source_of, where its windows start.
std::vector<int64_t> starts_of(const Batch& batch) {
    const std::vector<int32_t> tokens = batch.tokens.to_vector<int32_t>();
    std::vector<int64_t> starts;
    for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
        starts.push_back(tokens[static_cast<size_t>(row * batch.tokens.dim(1))]);
    }
    return starts;
}

std::vector<int64_t> sorted(std::vector<int64_t> values) {
    std::sort(values.begin(), values.end());
    return values;
}

}  // namespace

TEST_CASE("windows: heldout shares no token between windows, and validation is the end of the text") {
    for (const auto& size :
         {std::pair<int64_t, int64_t>{258, 128}, {1000, 7}, {10007, 31}, {4, 1}, {777, 128}}) {
        const auto n = size.first, seq_len = size.second;
        CAPTURE(n);
        const Windows w = make_windows(n, seq_len, Protocol::heldout, 0.1, 5, "x");
        REQUIRE(!w.train.empty());
        REQUIRE(!w.validation.empty());
        std::vector<int> uses(static_cast<size_t>(n), 0);
        for (const auto* side : {&w.train, &w.validation}) {
            for (const int64_t s : *side) {
                for (int64_t i = s; i <= s + seq_len; ++i) ++uses.at(static_cast<size_t>(i));
            }
        }
        CHECK(*std::max_element(uses.begin(), uses.end()) == 1);
        const int64_t last_train = *std::max_element(w.train.begin(), w.train.end());
        const int64_t first_validation = *std::min_element(w.validation.begin(), w.validation.end());
        CHECK(last_train + seq_len < first_validation);
        const int64_t wanted = std::max<int64_t>(n / 10, seq_len + 1);
        CHECK(std::abs((n - first_validation) - wanted) <= 1);
    }
}

TEST_CASE("windows: heldout does not depend on the seed") {
    const Windows a = make_windows(5000, 10, Protocol::heldout, 0.1, 1, "x");
    const Windows b = make_windows(5000, 10, Protocol::heldout, 0.1, 2, "x");
    CHECK(a.train == b.train);
    CHECK(a.validation == b.validation);
    CHECK(a.validation != sorted(a.validation));  // a spread order
}

TEST_CASE("windows: overlap has a window at every token and splits them by the seed") {
    const int64_t n = 1000, seq_len = 16, count = n - seq_len;
    const Windows w = make_windows(n, seq_len, Protocol::overlap, 0.1, 42, "x");
    CHECK(w.validation.size() == 98);
    CHECK(w.train.size() == static_cast<size_t>(count - 98));
    std::vector<int64_t> all = w.train;
    all.insert(all.end(), w.validation.begin(), w.validation.end());
    std::vector<int64_t> every(static_cast<size_t>(count));
    std::iota(every.begin(), every.end(), int64_t{0});
    CHECK(sorted(all) == every);
    CHECK(make_windows(n, seq_len, Protocol::overlap, 0.1, 42, "x").train == w.train);
    CHECK(sorted(make_windows(n, seq_len, Protocol::overlap, 0.1, 43, "x").train) != sorted(w.train));
}

TEST_CASE("windows: errors") {
    check_error(
        "data/x.txt: 57 tokens, need at least 258, a train and a validation window with their targets; "
        "give more text or lower the length of the sequences",
        [] { make_windows(57, 128, Protocol::heldout, 0.1, 0, "data/x.txt"); });
    check_error(
        "data/x.txt: 129 tokens, need at least 130, a train and a validation window that overlap; "
        "give more text or lower the length of the sequences",
        [] { make_windows(129, 128, Protocol::overlap, 0.1, 0, "data/x.txt"); });
    check_error("val_fraction: 1; want more than 0 and less than 1",
                [] { make_windows(1000, 8, Protocol::heldout, 1.0, 0, "x"); });
    check_error("seq_len: 0; want at least 1", [] { make_windows(1000, 0, Protocol::heldout, 0.1, 0, "x"); });
    check_error("protocol: 'random', want heldout or overlap",
                [] { from_name<Protocol>("protocol", "random"); });
    CHECK(from_name<Protocol>("protocol", "overlap") == Protocol::overlap);
    CHECK(value_named<Protocol>(name_of(Protocol::heldout)) == Protocol::heldout);
}

TEST_CASE("windows: random_permutation is a permutation, each place equally likely") {
    for (const int64_t n : {0, 1, 2, 31, 1000}) {
        std::vector<int64_t> identity(static_cast<size_t>(n));
        std::iota(identity.begin(), identity.end(), int64_t{0});
        CHECK(sorted(random_permutation(n, 7, 1)) == identity);
    }
    CHECK(random_permutation(50, 7, 1) == random_permutation(50, 7, 1));
    CHECK(random_permutation(50, 7, 1) != random_permutation(50, 7, 2));
    CHECK(random_permutation(50, 7, 1) != random_permutation(50, 8, 1));
    int counts[4][4] = {};
    for (uint64_t stream = 0; stream < 8000; ++stream) {
        const std::vector<int64_t> order = random_permutation(4, 1, stream);
        for (size_t i = 0; i < 4; ++i) ++counts[i][order[i]];
    }
    for (const auto& row : counts) {
        for (const int count : row) CHECK(std::abs(count - 2000) < 200);  // 5 standard deviations
    }
}

TEST_CASE("batches: targets are the tokens one place later") {
    for (const Protocol protocol : {Protocol::heldout, Protocol::overlap}) {
        const BatchSource source = source_of(1000, 9, 4, 3, protocol);
        for (const Batch& batch : {source.batch(0), source.batch(17), source.validation(0)}) {
            CHECK(batch.tokens.shape() == Shape{4, 9});
            CHECK(batch.targets.shape() == Shape{4, 9});
            CHECK(batch.tokens.dtype() == DType::int32);
            const auto tokens = batch.tokens.to_vector<int32_t>(),
                       targets = batch.targets.to_vector<int32_t>();
            for (size_t i = 0; i < tokens.size(); ++i) {
                CHECK(targets[i] == tokens[i] + 1);
                if (i % 9 != 0) CHECK(tokens[i] == tokens[i - 1] + 1);
            }
        }
    }
}

TEST_CASE("batches: every epoch meets every training window once, in a new order") {
    const BatchSource source = source_of(1000, 9, 7, 3);  // 90 windows, no multiple of 7
    REQUIRE(source.windows().train.size() == 90);
    std::vector<int64_t> seen;
    for (int64_t step = 0; step < 39; ++step) {
        for (const int64_t s : starts_of(source.batch(step))) seen.push_back(s);
    }
    std::vector<std::vector<int64_t>> epochs;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
        epochs.emplace_back(seen.begin() + epoch * 90, seen.begin() + (epoch + 1) * 90);
        CHECK(sorted(epochs.back()) == source.windows().train);
    }
    CHECK(epochs[0] != epochs[1]);
    CHECK(epochs[1] != epochs[2]);
    CHECK(source.epoch_of(0) == 0);
    CHECK(source.epoch_of(12) == 0);  // windows 84 .. 90: it ends in epoch 1
    CHECK(source.epoch_of(13) == 1);
    CHECK(source.steps_per_epoch() == doctest::Approx(90.0 / 7));
}

TEST_CASE("batches: a batch depends on seed and step alone") {
    const BatchSource forward = source_of(3000, 12, 5, 11), other_seed = source_of(3000, 12, 5, 12);
    std::vector<Batch> batches;
    for (int64_t step = 0; step < 60; ++step) batches.push_back(forward.batch(step));
    const BatchSource resumed = source_of(3000, 12, 5, 11);
    for (int64_t step = 59; step >= 0; --step) {
        const Batch batch = resumed.batch(step);
        CHECK(bit_identical(batch.tokens, batches[static_cast<size_t>(step)].tokens));
        CHECK(bit_identical(batch.targets, batches[static_cast<size_t>(step)].targets));
    }
    CHECK(!bit_identical(other_seed.batch(0).tokens, batches[0].tokens));
    // More rows than windows: the batch holds several epochs.
    const BatchSource small = source_of(30, 4, 16, 1);
    CHECK(small.batch(2).tokens.shape() == Shape{16, 4});
}

TEST_CASE("batches: validation goes through each of its windows once") {
    const BatchSource source = source_of(2000, 9, 8, 3);  // 20 windows: 8 + 8 + 4
    REQUIRE(source.validation_batches() == 3);
    std::vector<int64_t> seen;
    for (int64_t i = 0; i < 3; ++i) {
        for (const int64_t s : starts_of(source.validation(i))) seen.push_back(s);
    }
    CHECK(source.validation(2).tokens.shape() == Shape{4, 9});
    CHECK(seen == source.windows().validation);
    check_error("batches: validation batch 3; there are 3", [&] { source.validation(3); });
    check_error("batches: step -1; want 0 or more", [&] { source.batch(-1); });
    check_error("batch_size: 0; want at least 1", [] { source_of(2000, 9, 0, 3); });
}
