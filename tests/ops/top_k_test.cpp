#include "framework/ops/top_k/top_k.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>

#include "framework/attention/selection/common_keys.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Integers in [0, levels): many exact ties.
Tensor coarse_scores(int64_t batch, int64_t length, int levels, uint64_t seed, DType dtype) {
    const Tensor scores = random_tokens({batch, length, length}, seed, levels).to(dtype);
    return scores;
}

}  // namespace

DEVICE_TEST_CASE("top_k_select: against a stable sort", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 8, 9, 31, 32, 33, 65, 130}) {
        for (const int64_t k : {int64_t{1}, int64_t{3}, int64_t{32}, length + 3}) {
            if (is_emulated(device) && (length == 130 || k == 3)) continue;
            INFO("T " << length << " k " << k);
            const Tensor wide = random_normal({2, length, length}, 1);
            CHECK(same_selection(top_k_select(wide.to(device), k), oracle_select<double>(wide, k)));
            const Tensor single = wide.to(DType::float32);
            CHECK(same_selection(top_k_select(single.to(device), k), oracle_select<float>(single, k)));
            for (const int levels : {1, 2, 5}) {
                const Tensor coarse = coarse_scores(2, length, levels, 2, DType::float32);
                CHECK(same_selection(top_k_select(coarse.to(device), k), oracle_select<float>(coarse, k)));
            }
        }
    }
}

// Rows long enough for a list of candidates to be cut several times, in orders that make it hard: in
// ascending rows every score beats all before it, in descending ones the best come first, and few levels tie
// all over.
DEVICE_TEST_CASE("top_k_select: long rows in every order", device) {
    const int64_t length = device.is_cpu() || is_emulated(device) ? 300 : 3000;
    const Tensor random = random_normal({1, length, length}, 6);
    const Tensor coarse = random_tokens({1, length, length}, 7, 3).to(DType::float64);
    const auto filled = [&](const auto& f) {
        const Tensor scores = Tensor::zeros({1, length, length}, DType::float64);
        for (int64_t i = 0; i < scores.numel(); ++i)
            scores.data<double>()[i] = f(i, static_cast<double>(i % length));
        return scores;
    };
    const std::vector<Tensor> orders = {
        random, coarse, filled([](int64_t, double s) { return s; }),
        filled([](int64_t, double s) { return -s; }),
        filled([&](int64_t i, double s) { return s + random.data<double>()[i] * 10; }),
        // A wide range in which nearly all scores lie close together.
        filled([&](int64_t i, double s) {
            return i % 37 ? 1 + 1e-6 * random.data<double>()[i] : 1e30 * (s - 100);
        })};
    for (const DType dtype : {DType::float32, DType::float64})
        for (size_t order = 0; order < orders.size(); ++order)
            for (const int64_t k : {1, 40, 150}) {
                if (is_emulated(device) && k == (dtype == DType::float64 ? 1 : 40)) continue;
                INFO("order " << order << " k " << k << " " << name_of(dtype));
                const Tensor scores = orders[order].to(dtype);
                const Selection want = dtype == DType::float32 ? oracle_select<float>(scores, k)
                                                               : oracle_select<double>(scores, k);
                CHECK(same_selection(top_k_select(scores.to(device), k), want));
            }
}

// No error tells of a NaN there, but what is chosen are keys, all different; and numbers go before NaN.
DEVICE_TEST_CASE("top_k_select: rows with NaN on the device", device) {
    if (device.is_cpu()) return;
    const int64_t length = 200, k = 17;
    for (const int every : {1, 2, 50}) {
        const Tensor scores = random_normal({1, length, length}, 8, DType::float32), lowest = scores.clone();
        for (int64_t i = 0; i < scores.numel(); i += every) {
            scores.data<float>()[i] =
                i % 3 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::quiet_NaN();
            lowest.data<float>()[i] = -static_cast<float>(infinity);
        }
        CHECK(same_selection(top_k_select(scores.to(device), k), oracle_select<float>(lowest, k)));
    }
}

DEVICE_TEST_CASE("top_k_select: magnitudes of all sizes, both signs, infinities", device) {
    for (const DType dtype : {DType::float32, DType::float64}) {
        const Tensor x = random_normal({1, 67, 67}, 3);
        for (int64_t i = 0; i < x.numel(); ++i) {
            double& v = x.data<double>()[i];
            v = v * std::pow(10.0, 30.0 * std::sin(static_cast<double>(i)));
            if (i % 11 == 0) v = infinity;
            if (i % 13 == 0) v = -infinity;
        }
        const Tensor scores = x.to(dtype);
        for (const int64_t k : {1, 2, 8, 40}) {
            const Selection want =
                dtype == DType::float32 ? oracle_select<float>(scores, k) : oracle_select<double>(scores, k);
            CHECK(same_selection(top_k_select(scores.to(device), k), want));
        }
    }
}

DEVICE_TEST_CASE("top_k_select: all scores equal choose the lowest indices; -0 ties with +0", device) {
    const Tensor scores = Tensor::zeros({1, 40, 40});
    for (int64_t i = 0; i < scores.numel(); i += 2) scores.data<float>()[i] = -0.0f;
    const Selection selection = on(Device{}, top_k_select(scores.to(device), 3));
    for (int64_t t = 0; t < 40; ++t) {
        std::vector<int32_t> want(static_cast<size_t>(std::min<int64_t>(t + 1, 3)));
        std::iota(want.begin(), want.end(), 0);
        CHECK(chosen(selection, 0, t) == want);
    }
}

DEVICE_TEST_CASE("top_k_select: the future is never read, unused slots hold 0", device) {
    const Tensor scores = random_normal({1, 20, 20}, 4), other = scores.clone();
    for (int64_t t = 0; t < 20; ++t)
        for (int64_t s = t + 1; s < 20; ++s)
            other.data<double>()[t * 20 + s] = s % 2 ? infinity : std::numeric_limits<double>::quiet_NaN();
    const Selection selection = top_k_select(other.to(device), 6);
    CHECK(same_selection(selection, top_k_select(scores.to(device), 6)));
    CHECK(selection.indices.shape() == Shape{1, 20, 6});
    CHECK(selection.counts.to_vector<int32_t>()[2] == 3);
    CHECK(selection.indices.to_vector<int32_t>()[2 * 6 + 3] == 0);
}

TEST_CASE("top_k_select: the same on one and two threads") {
    const Tensor scores = coarse_scores(3, 90, 7, 5, DType::float32);
    const int before = thread_count();
    set_thread_count(1);
    const Selection one = top_k_select(scores, 9);
    set_thread_count(2);
    CHECK(same_selection(one, top_k_select(scores, 9)));
    set_thread_count(before);
}

TEST_CASE("common_keys: as many as the intersection of the two sets has") {
    for (const int64_t n : {0, 1, 2, 7, 33})
        for (const int keys : {40, 60, 400})
            for (uint64_t seed = 0; seed < 10; ++seed) {
                std::vector<int32_t> rows[2];
                for (uint64_t i : {0, 1}) {
                    std::set<int32_t> chosen;
                    for (const int32_t key : random_tokens({20 * n}, 2 * seed + i, keys).to_vector<int32_t>())
                        if (std::ssize(chosen) < n) chosen.insert(key);
                    rows[i].assign(chosen.begin(), chosen.end());
                }
                REQUIRE(std::ssize(rows[0]) == n);
                REQUIRE(std::ssize(rows[1]) == n);
                std::vector<int32_t> both;
                std::set_intersection(rows[0].begin(), rows[0].end(), rows[1].begin(), rows[1].end(),
                                      std::back_inserter(both));
                CHECK(common_keys(rows[0].data(), n, rows[1].data(), n) == std::ssize(both));
            }
}

TEST_CASE("top_k_select: errors") {
    check_error("top_k_select: top_k is 0, want at least 1", [] {
        top_k_select(Tensor::zeros({1, 2, 2}), 0);
    });
    check_error("top_k_select: scores is [1,2,3], want [1,2,2], as many keys as queries", [] {
        top_k_select(Tensor::zeros({1, 2, 3}), 1);
    });
    check_error("top_k_select: scores is [2,2], want 3 dims", [] { top_k_select(Tensor::zeros({2, 2}), 1); });
    check_error("top_k_select: needs float32 or float64, has int32", [] {
        top_k_select(Tensor::zeros({1, 2, 2}, DType::int32), 1);
    });
    const Tensor scores = Tensor::zeros({2, 5, 5});
    scores.data<float>()[25 + 3 * 5 + 1] = std::numeric_limits<float>::quiet_NaN();
    scores.data<float>()[25 + 4 * 5 + 1] = std::numeric_limits<float>::quiet_NaN();
    check_error("top_k_select: a score of batch row 1, query 3 is NaN", [&] { top_k_select(scores, 2); });
    try {
        top_k_select(scores, 2);
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::diverged);
    }
}
