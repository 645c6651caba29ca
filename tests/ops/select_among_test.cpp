#include "framework/ops/select_among/select_among.h"

#include <limits>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Selection random_candidates(int64_t length, int64_t count, uint64_t seed) {
    return top_k_select(random_normal({2, length, length}, seed), count);
}

Selection among(const Selection& candidates, const IndexerInput& in, int64_t k) {
    return on(Device{}, select_among(candidates, in.q, in.w, 0.3, in.k, in.k.dim(1), k));
}

std::vector<int32_t> oracle_row(const IndexerInput& in, const std::vector<int32_t>& candidates, int64_t b,
                                int64_t t, int64_t k) {
    std::vector<double> scores;
    for (const int32_t s : candidates) scores.push_back(oracle_score(in, 0.3, b, t, s));
    std::vector<int32_t> keys;
    for (const int32_t place : oracle_top(scores.data(), static_cast<int64_t>(scores.size()), k))
        keys.push_back(candidates[static_cast<size_t>(place)]);
    return keys;
}

}  // namespace

DEVICE_TEST_CASE("select_among: against the definition", device) {
    for (const int64_t length : {0, 1, 7, 33, 70})
        for (const int64_t count : {int64_t{1}, int64_t{9}, int64_t{40}, length + 1})
            for (const int64_t k : {1, 4, 9, 33}) {
                if (is_emulated(device) && (length > 33 || k == 9)) continue;
                INFO("T " << length << " of " << count << " k " << k);
                const IndexerInput in = random_indexer(2, length, 3, 5, 1);
                const Selection candidates = random_candidates(length, count, 4);
                const Selection got = among(on(device, candidates), on(device, in), k);
                CHECK(got.indices.shape() == Shape{2, length, std::min({k, count, length})});
                for (int64_t row = 0; row < 2 * length; ++row) {
                    const int64_t b = row / length, t = row % length;
                    CHECK(chosen(got, b, t) == oracle_row(in, chosen(candidates, b, t), b, t, k));
                }
            }
}

DEVICE_TEST_CASE("select_among: equal scores go to the lower index, in float32", device) {
    IndexerInput in = as_float32(random_indexer(2, 60, 2, 6, 2));
    for (int64_t s = 0; s < 120; ++s)  // three different keys, and keys of zeros
        for (int64_t i = 0; i < 6; ++i)
            in.k.data<float>()[s * 6 + i] = s % 5 == 0 ? 0 : in.k.data<float>()[s % 3 * 6 + i];
    const Selection candidates = random_candidates(60, 25, 6);
    const Selection got = among(on(device, candidates), on(device, in), 7);
    const IndexerInput wide{in.q.to(DType::float64), in.k.to(DType::float64), in.w.to(DType::float64)};
    for (int64_t row = 0; row < 120; ++row)
        CHECK(chosen(got, row / 60, row % 60) ==
              oracle_row(wide, chosen(candidates, row / 60, row % 60), row / 60, row % 60, 7));
}

TEST_CASE("select_among: the same on one and two threads, and of the last query alone") {
    const IndexerInput in = as_float32(random_indexer(2, 300, 4, 33, 3));
    const Selection candidates = random_candidates(300, 100, 5);
    const int before = thread_count();
    set_thread_count(1);
    const Selection one = among(candidates, in, 20);
    set_thread_count(2);
    CHECK(same_selection(one, among(candidates, in, 20)));
    set_thread_count(before);
    // The last query of batch row 0, among more keys than there are tokens.
    const Selection last{candidates.indices.alias({600, 100}).rows(299, 300).clone().alias({1, 1, 100}),
                         Tensor::full({1, 1}, 100, DType::int32)};
    const Selection got = select_among(
        last, in.q.alias({600, 4, 33}).rows(299, 300).clone().alias({1, 1, 4, 33}),
        in.w.alias({600, 4}).rows(299, 300).clone().alias({1, 1, 4}), 0.3, in.k.alias({1, 600, 33}), 300, 20);
    CHECK(chosen(got, 0, 0) == chosen(one, 0, 299));
}

TEST_CASE("select_among: errors") {
    const IndexerInput in = as_float32(random_indexer(1, 4, 2, 3, 1));
    const Selection all = select_all(1, 4);
    check_error("select_among: top_k is 0, want at least 1",
                [&] { select_among(all, in.q, in.w, 1, in.k, 4, 0); });
    check_error("select_among: length is 5, want 4 queries to 4 keys",
                [&] { select_among(all, in.q, in.w, 1, in.k, 5, 2); });
    check_error("select_among: w is [1,4,3], want [1,4,2], q is [1,4,2,3]", [&] {
        select_among(all, in.q, Tensor::zeros({1, 4, 3}), 1, in.k, 4, 2);
    });
    const Selection future{all.indices.clone(), all.counts};
    future.indices.data<int32_t>()[0] = 2;
    check_error("select_among: row [0,0] selects key 2, want 0 to 0",
                [&] { select_among(future, in.q, in.w, 1, in.k, 4, 2); });
    in.q.data<float>()[3 * 6] = std::numeric_limits<float>::quiet_NaN();
    check_error("select_among: a score of batch row 0, query 3 is NaN",
                [&] { select_among(all, in.q, in.w, 1, in.k, 4, 2); });
}
