#include "framework/ops/lightning_indexer/lightning_indexer.h"

#include <cstring>
#include <map>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Tensor scores_of(const IndexerInput& in, double scale) {
    return indexer_scores({in.q, in.k, in.w, scale});
}
Selection select_of(const IndexerInput& in, double scale, int64_t k) {
    return indexer_select({in.q, in.k, in.w, scale}, k);
}

// inf - inf would be NaN: compares the finite entries and requires the rest to be equal.
double causal_difference(const Tensor& got, const Tensor& want) {
    const Tensor a = got.to(Device{}).to(DType::float64);
    double worst = 0;
    for (int64_t i = 0; i < a.numel(); ++i) {
        const double x = a.data<double>()[i], y = want.data<double>()[i];
        if (x != y) worst = std::max(worst, std::abs(x - y));
    }
    return worst;
}

// Rewrites all that follows token `last` in each batch row.
IndexerInput with_other_future(const IndexerInput& in, int64_t last) {
    const IndexerInput other{in.q.clone(), in.k.clone(), in.w.clone()};
    for (const Tensor& x : {other.q, other.k, other.w}) {
        const int64_t each = x.numel() / x.dim(0), token = each / x.dim(1);
        for (int64_t b = 0; b < x.dim(0); ++b)
            for (int64_t i = (last + 1) * token; i < each; ++i) x.data<float>()[b * each + i] += 3.0f;
    }
    return other;
}

}  // namespace

DEVICE_TEST_CASE("indexer_scores: values against the formula", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33, 70}) {
        for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {4, 16}, {2, 33}, {37, 3}}) {
            const auto heads = sizes.first, width = sizes.second;
            INFO("T " << length << " HI " << heads << " dI " << width);
            const IndexerInput in = random_indexer(2, length, heads, width, 1);
            const Tensor want = oracle_scores(in, 0.3);
            CHECK(causal_difference(scores_of(on(device, in), 0.3), want) < 1e-12);
            CHECK(causal_difference(scores_of(on(device, as_float32(in)), 0.3), want) < 1e-4);
        }
    }
}

DEVICE_TEST_CASE("indexer_scores: gradients", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33}) {
        for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 3}, {3, 5}, {4, 17}}) {
            const auto heads = sizes.first, width = sizes.second;
            if (length == 33 && heads > 1) continue;
            if (is_emulated(device) && length * heads != 5 && length * heads != 6) continue;
            check_gradients(
                "T " + std::to_string(length) + " HI " + std::to_string(heads),
                [](const std::vector<Tensor>& in) {
                    // -inf times a cotangent is no number: keep the causal entries only.
                    const Tensor scores = indexer_scores({in[0], in[1], in[2], 0.6});
                    const Tensor on_host = scores.clone().to(Device{});
                    for (int64_t i = 0; i < on_host.numel(); ++i)
                        if (std::isinf(on_host.data<double>()[i])) on_host.data<double>()[i] = 0;
                    const Tensor causal = on_host.to(scores.device());
                    record("causal", {scores}, {causal},
                           [](const std::vector<Tensor>& d) { return std::vector<Tensor>{d[0]}; });
                    return std::vector<Tensor>{causal};
                },
                [&, h = heads, d = width] {
                    const IndexerInput in = random_indexer(length > 30 ? 1 : 2, length, h, d, 10);
                    with_gradients(in);
                    return std::vector<Tensor>{in.q, in.k, in.w};
                }(),
                {.device = device});
        }
    }
}

TEST_CASE("indexer_scores: gradients of split sequences are those of short ones") {
    const int64_t length = 600, heads = 3, width = 5;
    const IndexerInput in = random_indexer(1, length, heads, width, 20);
    with_gradients(in);
    const Tensor cotangent = random_normal({1, length, length}, 21);
    backward({scores_of(in, 1.0)}, {cotangent});
    Tensor dk = Tensor::zeros({1, length, width}, DType::float64);
    for (int64_t t = 0; t < length; ++t)
        for (int64_t s = 0; s <= t; ++s)
            for (int64_t j = 0; j < heads; ++j) {
                const double* q = in.q.data<double>() + (t * heads + j) * width;
                const double* k = in.k.data<double>() + s * width;
                if (std::inner_product(q, q + width, k, 0.0) <= 0) continue;
                const double g =
                    cotangent.data<double>()[t * length + s] * in.w.data<double>()[t * heads + j];
                for (int64_t i = 0; i < width; ++i) dk.data<double>()[s * width + i] += g * q[i];
            }
    CHECK(relative_difference(in.k.grad(), dk) < 1e-12);
}

DEVICE_TEST_CASE("indexer_scores: a dot product of exactly 0 passes no gradient", device) {
    const IndexerInput in =
        on(device, IndexerInput{Tensor::zeros({1, 2, 1, 3}, DType::float64), random_normal({1, 2, 3}, 22),
                                Tensor::full({1, 2, 1}, 2.0, DType::float64)});
    with_gradients(in);
    backward({scores_of(in, 1.0)}, {Tensor::full({1, 2, 2}, 1.0, DType::float64, device)});
    for (const Tensor& x : {in.q, in.k, in.w})
        CHECK(max_abs_difference(x.grad(), Tensor::zeros(x.shape(), DType::float64)) == 0);
}

DEVICE_TEST_CASE("indexer_select: the streaming selection is that of the materialised scores", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33, 130, 257}) {
        for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {4, 32}, {130, 2}}) {
            const auto heads = sizes.first, width = sizes.second;
            if (is_emulated(device) && (length > 130 || length * heads > 250)) continue;
            const IndexerInput in = on(device, random_indexer(2, length, heads, width, 30));
            const IndexerInput single = as_float32(in);
            const Tensor scores = scores_of(in, 0.4), single_scores = scores_of(single, 0.4);
            for (const int64_t k : {int64_t{1}, int64_t{3}, int64_t{64}, length + 3}) {
                INFO("T " << length << " HI " << heads << " k " << k);
                CHECK(same_selection(select_of(in, 0.4, k), top_k_select(scores, k)));
                CHECK(same_selection(select_of(single, 0.4, k),
                                     oracle_select<float>(single_scores.to(Device{}), k)));
            }
        }
    }
}

namespace {

void check_ties(Device device, int64_t heads, int64_t width) {
    // Five kinds of token; keys of one kind must have bit-equal scores for every query, in every batch row.
    const int64_t length = 150, kinds = 5;
    const IndexerInput kind = as_float32(random_indexer(1, kinds, heads, width, 40));
    const IndexerInput in{Tensor::empty({2, length, heads, width}), Tensor::empty({2, length, width}),
                          Tensor::empty({2, length, heads})};
    const auto kind_of = [&](int64_t row) { return (row * 3 + row / 7) % kinds; };
    for (int64_t row = 0; row < 2 * length; ++row)
        for (const auto& [to, from] : {std::pair{in.q, kind.q}, {in.k, kind.k}, {in.w, kind.w}}) {
            const int64_t each = from.numel() / kinds;
            std::copy_n(from.data<float>() + kind_of(row) * each, each, to.data<float>() + row * each);
        }
    const Tensor scores = scores_of(on(device, in), 1.0).to(Device{});
    std::map<std::pair<int64_t, int64_t>, float> first;  // by the kinds of query and key
    int64_t differing = 0;
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t t = 0; t < length; ++t)
            for (int64_t s = 0; s <= t; ++s) {
                const float score = scores.data<float>()[(b * length + t) * length + s];
                const auto [at, fresh] =
                    first.try_emplace({kind_of(b * length + t), kind_of(b * length + s)}, score);
                differing += std::memcmp(&at->second, &score, sizeof score) != 0;
            }
    CHECK(first.size() == 25);
    CHECK(differing == 0);
    CHECK(same_selection(select_of(on(device, in), 1.0, 20), oracle_select<float>(scores, 20)));
}

}  // namespace

DEVICE_TEST_CASE("indexer_select: equal tokens tie wherever they lie, in every precision", device) {
    check_ties(device, 3, 17);
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings) {
        const PrecisionScope scope(rounding.precision);
        check_ties(device, 3, 17);
        check_ties(device, 9, 100);
    }
}

DEVICE_TEST_CASE("indexer_select: all scores 0 choose the lowest indices", device) {
    IndexerInput in = as_float32(random_indexer(1, 90, 2, 8, 50));
    in.w.fill(-1.0);
    in.q.fill(-1.0);
    for (int64_t i = 0; i < in.k.numel(); ++i) in.k.data<float>()[i] = std::abs(in.k.data<float>()[i]);
    const Selection selection = on(Device{}, select_of(on(device, in), 1.0, 10));
    for (int64_t t = 0; t < 90; ++t) {
        const std::vector<int32_t> got = chosen(selection, 0, t);
        REQUIRE(static_cast<int64_t>(got.size()) == std::min<int64_t>(10, t + 1));
        for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == static_cast<int32_t>(i));
    }
}

DEVICE_TEST_CASE("indexer_select: later tokens change no bit of earlier rows", device) {
    const IndexerInput in = as_float32(random_indexer(2, 100, 3, 7, 60));
    for (const int64_t last : {0, 31, 50, 63, 98}) {
        if (is_emulated(device) && last != 31 && last != 50) continue;
        const IndexerInput other = with_other_future(in, last);
        const IndexerInput here = on(device, in), there = on(device, other);
        const Tensor a = scores_of(here, 1.0).to(Device{}), b = scores_of(there, 1.0).to(Device{});
        const Selection c = on(Device{}, select_of(here, 1.0, 9)), d = on(Device{}, select_of(there, 1.0, 9));
        for (int64_t batch = 0; batch < 2; ++batch) {
            CHECK(std::memcmp(a.data<float>() + batch * 10000, b.data<float>() + batch * 10000,
                              static_cast<size_t>((last + 1) * 100 * 4)) == 0);
            for (int64_t t = 0; t <= last; ++t) CHECK(chosen(c, batch, t) == chosen(d, batch, t));
        }
    }
}

// Scores, and the gradients of a random cotangent with finite entries where scores are.
std::vector<Tensor> scores_and_gradients(const IndexerInput& in, Device device) {
    const IndexerInput leaves = on(device, IndexerInput{in.q.clone(), in.k.clone(), in.w.clone()});
    with_gradients(leaves);
    const Tensor scores = scores_of(leaves, 0.5);
    backward({scores}, {random_normal(scores.shape(), 91, in.q.dtype()).to(device)});
    return {scores, leaves.q.grad(), leaves.k.grad(), leaves.w.grad()};
}

struct IndexerShape {
    int64_t batch, length, heads, width;
};
constexpr IndexerShape indexer_shapes[] = {{2, 1, 1, 1},   {1, 33, 3, 32},  {2, 65, 4, 36},  {1, 70, 33, 5},
                                           {3, 40, 8, 31}, {1, 129, 2, 64}, {1, 31, 70, 130}};

DEVICE_TEST_CASE("indexer_scores: the device agrees with the CPU", device) {
    if (device.is_cpu()) return;
    for (const IndexerShape& n : indexer_shapes) {
        INFO("T " << n.length << " HI " << n.heads << " dI " << n.width);
        const IndexerInput in = as_float32(random_indexer(n.batch, n.length, n.heads, n.width, 90));
        const std::vector<Tensor> got = scores_and_gradients(in, device), want = scores_and_gradients(in, {});
        CHECK(causal_difference(got[0], want[0].to(DType::float64)) < 1e-3);
        for (size_t i = 1; i < 4; ++i) CHECK(normalised_squared_error(got[i], want[i]) < 1e-7);
        const std::vector<Tensor> again = scores_and_gradients(in, device);
        for (size_t i = 0; i < 4; ++i) CHECK(bit_identical(got[i], again[i]));
    }
}

DEVICE_TEST_CASE("indexer_scores: tf32 and bf16", device) {
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings)
        for (const IndexerShape& n : indexer_shapes) {
            INFO("T " << n.length << " HI " << n.heads << " dI " << n.width << " bound " << rounding.error);
            const IndexerInput in = as_float32(random_indexer(n.batch, n.length, n.heads, n.width, 92));
            const Tensor want = scores_of(in, 0.5);
            const PrecisionScope scope(rounding.precision);
            const Tensor scores = scores_of(on(device, in), 0.5), got = scores.to(Device{});
            for (const Tensor& x : {got, want})
                for (int64_t i = 0; i < x.numel(); ++i)
                    if (std::isinf(x.data<float>()[i])) x.data<float>()[i] = 0;
            CHECK(normalised_squared_error(got, want) < rounding.error);
            CHECK((n.width > 128 || normalised_squared_error(got, want) > rounding.error * 1e-5));
            for (const int64_t k : {1, 20})
                CHECK(same_selection(select_of(on(device, in), 0.5, k), top_k_select(scores, k)));
        }
}

DEVICE_TEST_CASE("indexer_scores: gradients in tf32 and bf16", device) {
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings)
        for (const IndexerShape& n : indexer_shapes) {
            INFO("T " << n.length << " HI " << n.heads << " dI " << n.width << " bound " << rounding.error);
            if (is_emulated(device) && n.width > 64) continue;
            const IndexerInput in = as_float32(random_indexer(n.batch, n.length, n.heads, n.width, 92));
            const IndexerInput rounded{coarse(in.q), coarse(in.k), in.w};
            const std::vector<Tensor> want = scores_and_gradients(rounded, {});
            const PrecisionScope scope(rounding.precision);
            const std::vector<Tensor> got = scores_and_gradients(rounded, device);
            CHECK(causal_difference(got[0], want[0].to(DType::float64)) < 1e-3);
            for (size_t i = 1; i < 4; ++i)
                CHECK(normalised_squared_error(got[i], want[i]) < rounding.error * 1e-1);
        }
}

DEVICE_TEST_CASE("indexer_select: in every precision later tokens change no bit of earlier rows", device) {
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings) {
        const PrecisionScope scope(rounding.precision);
        const IndexerInput in = as_float32(random_indexer(1, 100, 3, 40, 93));
        const int64_t last = 50;
        const IndexerInput here = on(device, in), there = on(device, with_other_future(in, last));
        CHECK(bit_identical(scores_of(here, 1.0).to(Device{}).alias({100, 100}).rows(0, last + 1),
                            scores_of(there, 1.0).to(Device{}).alias({100, 100}).rows(0, last + 1)));
        const Selection a = on(Device{}, select_of(here, 1.0, 9)), b = on(Device{}, select_of(there, 1.0, 9));
        for (int64_t t = 0; t <= last; ++t) CHECK(chosen(a, 0, t) == chosen(b, 0, t));
    }
}

TEST_CASE("lightning indexer: the same bits on one and two threads") {
    const int before = thread_count();
    for (const int64_t length : {90, 530}) {
        const IndexerInput in = as_float32(random_indexer(2, length, 2, 9, 70));
        const Tensor cotangent = random_normal({2, length, length}, 71, DType::float32);
        const auto run = [&](int threads) {
            set_thread_count(threads);
            const IndexerInput leaves{in.q.clone(), in.k.clone(), in.w.clone()};
            with_gradients(leaves);
            const Tensor scores = scores_of(leaves, 0.5);
            backward({scores}, {cotangent});
            const Selection s = select_of(in, 0.5, 11);
            return std::vector<Tensor>{scores,          leaves.q.grad(), leaves.k.grad(),
                                       leaves.w.grad(), s.indices,       s.counts};
        };
        const std::vector<Tensor> one = run(1), two = run(2);
        for (size_t i = 0; i < one.size(); ++i) CHECK(bit_identical(one[i], two[i]));
    }
    set_thread_count(before);
}

TEST_CASE("indexer_select: no memory of the order of T x T") {
    const int64_t length = 4096;
    const IndexerInput in = as_float32(random_indexer(1, length, 2, 8, 80));
    release_cached_memory();
    reset_peak_memory();
    const int64_t before = memory_stats().live_bytes;
    const Selection selection = select_of(in, 1.0, 16);
    const int64_t used = memory_stats().peak_bytes - before;
    CHECK(used < length * length * 4 / 16);
    CHECK(selection.counts.to_vector<int32_t>().back() == 16);
}

TEST_CASE("lightning indexer: errors") {
    const Tensor q = Tensor::zeros({1, 4, 2, 3}), k = Tensor::zeros({1, 4, 3}), w = Tensor::zeros({1, 4, 2});
    check_error("indexer_select: top_k is 0, want at least 1", [&] { indexer_select({q, k, w}, 0); });
    check_error("indexer_scores: indexer k is [1,4,5], want [1,4,3], indexer q is [1,4,2,3]", [&] {
        indexer_scores({q, Tensor::zeros({1, 4, 5}), w});
    });
    check_error("indexer_scores: indexer w is [1,4], want [1,4,2], indexer q is [1,4,2,3]", [&] {
        indexer_scores({q, k, Tensor::zeros({1, 4})});
    });
    check_error("indexer_scores: indexer w is float64, want float32", [&] {
        indexer_scores({q, k, w.to(DType::float64)});
    });
    check_error("indexer_scores: indexer q is [4,2,3], want 4 dims", [&] {
        indexer_scores({Tensor::zeros({4, 2, 3}), k, w});
    });
    check_error("indexer_scores: indexer q is [1,4,2,0], want at least one head and one dim", [&] {
        indexer_scores({Tensor::zeros({1, 4, 2, 0}), Tensor::zeros({1, 4, 0}), w});
    });
    const Tensor bad = k.clone();
    bad.data<float>()[2 * 3] = std::numeric_limits<float>::quiet_NaN();
    check_error("indexer_select: a score of batch row 0, query 2 is NaN", [&] {
        indexer_select({q, bad, w}, 1);
    });
    check_error("nothing was thrown", [&] { indexer_select({q, bad, w}, 4); });
}
