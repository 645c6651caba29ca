#include "framework/ops/indexer_quality/indexer_quality.h"

#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

IndexerQuality quality_of(const AttentionInput& in, const Selection& selection) {
    return indexer_quality(main_attention(in), selection);
}

double sum_of(const std::vector<double>& p, const std::vector<int32_t>& keys) {
    double sum = 0;
    for (const int32_t s : keys) sum += p[static_cast<size_t>(s)];
    return sum;
}

double entropy_of(const std::vector<double>& p) {
    double sum = 0;
    for (const double share : p) sum -= share * std::log(share);
    return sum;
}

// Sums over rows until the end.
IndexerQuality oracle_quality(const AttentionInput& in, const Selection& selection) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(2);
    IndexerQuality q{0, 0, 0, 0, 0, 0, 0, 0, 0, batch * length, 0};
    for (int64_t row = 0; row < batch * length; ++row) {
        const int64_t b = row / length, t = row % length;
        std::vector<double> p;
        for (int64_t s = 0; s <= t; ++s) p.push_back(oracle_target(in, b, t, s));
        const std::vector<int32_t> keys = chosen(selection, b, t);
        const std::vector<int32_t> best = oracle_top(p.data(), t + 1, static_cast<int64_t>(keys.size()));
        std::vector<int32_t> both;
        std::set_intersection(keys.begin(), keys.end(), best.begin(), best.end(), std::back_inserter(both));
        const double recall = static_cast<double>(both.size()) / static_cast<double>(keys.size());
        q.recall += recall;
        q.covered_mass += sum_of(p, keys);
        q.oracle_mass += sum_of(p, best);
        q.chance += static_cast<double>(keys.size()) / static_cast<double>(t + 1);
        q.entropy += entropy_of(p);
        if (static_cast<int64_t>(keys.size()) > t) continue;
        q.recall_of_choices += recall;
        q.covered_mass_of_choices += sum_of(p, keys);
        q.oracle_mass_of_choices += sum_of(p, best);
        q.chance_of_choices += static_cast<double>(keys.size()) / static_cast<double>(t + 1);
        ++q.choices;
    }
    if (q.rows == 0) q.recall = q.covered_mass = q.oracle_mass = q.chance = 1;
    const auto rows = static_cast<double>(std::max<int64_t>(1, q.rows)), choices = double(q.choices);
    for (double* mean : {&q.recall, &q.covered_mass, &q.oracle_mass, &q.chance, &q.entropy}) *mean /= rows;
    for (double* mean :
         {&q.recall_of_choices, &q.covered_mass_of_choices, &q.oracle_mass_of_choices, &q.chance_of_choices})
        *mean = q.choices ? *mean / choices : NAN;
    return q;
}

// Also of means over no row.
void check_close(double got, double want, double epsilon) {
    if (std::isnan(want))
        CHECK(std::isnan(got));
    else
        CHECK(got == doctest::Approx(want).epsilon(epsilon));
}

}  // namespace

DEVICE_TEST_CASE("indexer_quality: against the definition", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33, 100})
        for (const int64_t k : {int64_t{1}, int64_t{3}, int64_t{20}, length + 3})
            for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}}) {
                const auto heads = sizes.first, groups = sizes.second;
                INFO("T " << length << " k " << k << " H " << heads);
                const AttentionInput in = random_attention(heads, groups, 5, select_all(2, length), 1);
                const Selection selection = top_k_select(random_normal({2, length, length}, 2), k);
                if (is_emulated(device) && ((length > 33 && k != 20) || k == 3)) continue;
                const Selection there = on(device, selection);
                const IndexerQuality got = quality_of(on(device, in), there),
                                     want = oracle_quality(in, selection);
                check_close(got.recall, want.recall, 1e-12);
                check_close(got.covered_mass, want.covered_mass, 1e-12);
                check_close(got.oracle_mass, want.oracle_mass, 1e-12);
                check_close(got.chance, want.chance, 1e-12);
                check_close(got.entropy, want.entropy, 1e-12);
                check_close(got.recall_of_choices, want.recall_of_choices, 1e-12);
                check_close(got.covered_mass_of_choices, want.covered_mass_of_choices, 1e-12);
                check_close(got.oracle_mass_of_choices, want.oracle_mass_of_choices, 1e-12);
                check_close(got.chance_of_choices, want.chance_of_choices, 1e-12);
                CHECK(got.rows == want.rows);
                CHECK(got.choices == want.choices);
                const IndexerQuality single = quality_of(on(device, as_float32(in)), there);
                CHECK(single.covered_mass == doctest::Approx(want.covered_mass).epsilon(1e-5));
                CHECK(single.recall == doctest::Approx(want.recall).epsilon(1e-2));
                check_close(single.oracle_mass_of_choices, want.oracle_mass_of_choices, 1e-5);
                CHECK(single.entropy == doctest::Approx(want.entropy).epsilon(1e-5));
            }
}

DEVICE_TEST_CASE("indexer_quality: the best keys have recall 1; ties of p go to the lower index", device) {
    const int64_t length = 60;
    const AttentionInput in = random_attention(2, 1, 3, select_all(1, length), 3);
    const Tensor p = Tensor::zeros({1, length, length}, DType::float64);
    for (int64_t t = 0; t < length; ++t)
        for (int64_t s = 0; s <= t; ++s) p.data<double>()[t * length + s] = oracle_target(in, 0, t, s);
    const IndexerQuality best = quality_of(on(device, in), on(device, top_k_select(p, 7)));
    CHECK(best.recall_of_choices == 1);
    CHECK(best.covered_mass_of_choices == best.oracle_mass_of_choices);

    // Uniform attention: the first keys are the true ones.
    const Tensor zeros = Tensor::zeros({1, 1, length, 2});
    const Tensor first = Tensor::zeros({1, length, length}), last = Tensor::zeros({1, length, length});
    for (int64_t i = 0; i < last.numel(); ++i) last.data<float>()[i] = static_cast<float>(i % length);
    const auto quality = [&](const Tensor& scores) {
        return indexer_quality({zeros.to(device), zeros.to(device)}, on(device, top_k_select(scores, 4)));
    };
    CHECK(quality(first).recall == 1);
    const IndexerQuality worst = quality(last);
    CHECK(worst.choices == length - 4);
    // Rows t = 4, 5, 6 share 3, 2, 1 of 4 keys with the first ones.
    CHECK(worst.recall_of_choices == doctest::Approx(1.5 / static_cast<double>(length - 4)));
}

DEVICE_TEST_CASE("indexer_quality: above chance, random keys are 0 and the best ones 1", device) {
    const int64_t length = 60;
    const AttentionInput in = random_attention(2, 1, 3, select_all(1, length), 3);
    const Tensor p = Tensor::zeros({1, length, length}, DType::float64);
    for (int64_t t = 0; t < length; ++t)
        for (int64_t s = 0; s <= t; ++s) p.data<double>()[t * length + s] = oracle_target(in, 0, t, s);
    const auto quality = [&](const Tensor& scores) {
        return quality_of(on(device, in), on(device, top_k_select(scores, 7)));
    };
    CHECK(quality(p).recall_above_chance() == 1);
    CHECK(quality(p).mass_above_chance() == 1);
    double recall = 0, mass = 0;
    const int draws = is_emulated(device) ? 5 : 200;
    for (int i = 0; i < draws; ++i) {
        const IndexerQuality random = quality(random_normal({1, length, length}, 100 + uint64_t(i)));
        recall += random.recall_above_chance() / draws;
        mass += random.mass_above_chance() / draws;
    }
    CHECK(std::abs(recall) < (is_emulated(device) ? 0.15 : 0.02));
    CHECK(std::abs(mass) < (is_emulated(device) ? 0.15 : 0.02));
    const Tensor worst = p.clone();
    for (int64_t i = 0; i < worst.numel(); ++i) worst.data<double>()[i] *= -1;
    CHECK(quality(worst).recall_above_chance() < -0.1);
    CHECK(quality(worst).mass_above_chance() < -0.1);
}

DEVICE_TEST_CASE("indexer_quality: nothing is above chance where nothing can be chosen", device) {
    const AttentionInput in = random_attention(2, 1, 3, select_all(1, 9), 3);
    const Selection all = on(device, top_k_select(random_normal({1, 9, 9}, 2), 9));
    const IndexerQuality no_choice = quality_of(on(device, in), all);
    CHECK(no_choice.choices == 0);
    CHECK(std::isnan(no_choice.recall_above_chance()));
    CHECK(std::isnan(no_choice.mass_above_chance()));
    // Uniform attention: every key is as good as another, while recall still tells the first ones.
    const Tensor zeros = Tensor::zeros({1, 1, 37, 2}).to(device);
    const Tensor random = random_normal({1, 37, 37}, 2, DType::float32);
    const IndexerQuality uniform = indexer_quality({zeros, zeros}, on(device, top_k_select(random, 5)));
    CHECK(std::isnan(uniform.mass_above_chance()));
    CHECK(std::abs(uniform.recall_above_chance()) < 0.3);
    double logs = 0;
    for (int t = 0; t < 37; ++t) logs += std::log(t + 1.0) / 37;
    CHECK(uniform.entropy == doctest::Approx(logs).epsilon(1e-6));
    // One key has everything: no entropy, to the bit.
    const Tensor q = Tensor::full({1, 1, 5, 1}, 100), k = Tensor::zeros({1, 1, 5, 1});
    k.data<float>()[0] = 100;
    CHECK(indexer_quality({q.to(device), k.to(device)}, on(device, top_k_select(Tensor::zeros({1, 5, 5}), 2)))
              .entropy == 0);
}

DEVICE_TEST_CASE("indexer_quality: tf32 and bf16", device) {
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings) {
        const AttentionInput in = as_float32(random_attention(4, 2, 24, select_all(1, 70), 5));
        const Selection selection = top_k_select(random_normal({1, 70, 70}, 6), 20);
        const IndexerQuality want = quality_of(in, selection);
        const PrecisionScope scope(rounding.precision);
        const IndexerQuality got = quality_of(on(device, in), on(device, selection));
        CHECK(got.covered_mass == doctest::Approx(want.covered_mass).epsilon(std::sqrt(rounding.error)));
        CHECK(got.recall == doctest::Approx(want.recall).epsilon(0.02));
        CHECK(got.entropy == doctest::Approx(want.entropy).epsilon(std::sqrt(rounding.error)));
    }
}

TEST_CASE("indexer_quality: O(T) memory, the same on one and two threads") {
    const int64_t length = 2048;
    const Tensor q = random_normal({1, 2, length, 4}, 4, DType::float32);
    const Selection selection{Tensor::zeros({1, length, 1}, DType::int32),
                              Tensor::full({1, length}, 1, DType::int32)};
    const int threads = thread_count();
    set_thread_count(1);
    const IndexerQuality one = indexer_quality({q, q, 0.5}, selection);
    set_thread_count(2);
    reset_peak_memory();
    const int64_t before = memory_stats().live_bytes;
    const IndexerQuality two = indexer_quality({q, q, 0.5}, selection);
    CHECK(memory_stats().peak_bytes - before < length * length * 4 / 8);
    CHECK(one.recall == two.recall);
    CHECK(one.covered_mass == two.covered_mass);
    CHECK(one.entropy == two.entropy);
    CHECK(one.oracle_mass_of_choices == two.oracle_mass_of_choices);
    set_thread_count(threads);
}

TEST_CASE("indexer_quality: errors") {
    const Tensor q = Tensor::zeros({1, 3, 4, 5});
    const Selection selection = top_k_select(Tensor::zeros({1, 4, 4}), 2);
    check_error("indexer_quality: k is [1,3,4,6], want [1,3,4,5], q is [1,3,4,5]", [&] {
        indexer_quality({q, Tensor::zeros({1, 3, 4, 6})}, selection);
    });
    check_error("indexer_quality: q has 3 heads, want a multiple of the 2 of k", [&] {
        indexer_quality({q, Tensor::zeros({1, 2, 4, 5})}, selection);
    });
    const Tensor bad = q.clone();
    bad.data<float>()[3 * 5] = std::numeric_limits<float>::quiet_NaN();
    check_error("indexer_quality: a score of batch row 0, query 3 is NaN", [&] {
        indexer_quality({bad, q}, selection);
    });
    // Also in a row that selects all its keys.
    check_error("indexer_quality: a score of batch row 0, query 3 is NaN", [&] {
        indexer_quality({bad, q}, top_k_select(Tensor::zeros({1, 4, 4}), 4));
    });
}
