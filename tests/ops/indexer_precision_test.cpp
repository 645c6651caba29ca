// The precisions of indexer_select and decode_select.
#include <cstring>

#include "framework/attention/scores/int8_dots.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/decode_select/decode_select.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "framework/ops/quantize_rows/quantize_rows.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr IndexerPrecision low_precisions[] = {IndexerPrecision::bf16, IndexerPrecision::fp8,
                                               IndexerPrecision::int8};

// Scores of the rounded operands by the float32 indexer, which holds int8's sums exactly.
Tensor scores_of(const IndexerInput& in, double scale, IndexerPrecision precision) {
    const RoundedQueries queries = rounded_queries(in.q, in.w, precision);
    const RoundedKeys keys = rounded_keys(in.k, precision);
    const Tensor scores = indexer_scores({queries.q, keys.k, queries.w, scale}).to(Device{}).clone();
    if (!keys.scales.defined()) return scores;
    const Tensor factors = keys.scales.to(Device{});
    const int64_t length = scores.dim(1);
    for (int64_t row = 0; row < scores.numel() / std::max<int64_t>(length, 1); ++row)
        for (int64_t s = 0; s <= row % length; ++s)
            scores.data<float>()[row * length + s] *= factors.data<float>()[row / length * length + s];
    return scores;
}

Selection select_of(const IndexerInput& in, int64_t k, IndexerPrecision precision) {
    return indexer_select({in.q, in.k, in.w, 0.3}, k, precision);
}

// Entry (t, all) of a batch row, as a tensor of T = 1.
Tensor token_of(const Tensor& x, int64_t t) {
    Shape shape{1, 1};
    for (int i = 2; i < x.rank(); ++i) shape.append(x.dim(i));
    return x.alias({x.dim(1), x.numel() / x.dim(1)}).rows(t, t + 1).alias(shape);
}

}  // namespace

DEVICE_TEST_CASE("indexer precision: the selection is that of the rounded operands' scores", device) {
    for (const int64_t length : {0, 1, 2, 7, 33, 67, 130})
        for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 1}, {3, 8}, {4, 32}, {5, 64}, {2, 33}}) {
            const auto heads = sizes.first, width = sizes.second;
            if (is_emulated(device) && length * heads > 250) continue;
            const IndexerInput in = on(device, as_float32(random_indexer(2, length, heads, width, 1)));
            for (const IndexerPrecision precision : low_precisions) {
                if (precision == IndexerPrecision::fp8 && width == 33) continue;
                const Tensor scores = scores_of(in, 0.3, precision);
                for (const int64_t k : {int64_t{1}, int64_t{5}, int64_t{64}, length + 1}) {
                    INFO("T " << length << " HI " << heads << " dI " << width << " precision "
                              << static_cast<int>(precision) << " k " << k);
                    CHECK(same_selection(select_of(in, k, precision), oracle_select<float>(scores, k)));
                }
            }
        }
}

DEVICE_TEST_CASE("indexer precision: scores are near those of the formula", device) {
    const IndexerInput in = random_indexer(1, 40, 3, 64, 4), single = on(device, as_float32(in));
    const Tensor want = oracle_scores(in, 0.3);
    double size = 0;
    for (int64_t t = 0; t < 40; ++t)
        for (int64_t s = 0; s <= t; ++s) size = std::max(size, std::abs(want.data<double>()[t * 40 + s]));
    const auto worst = [&](IndexerPrecision precision) {
        const Tensor got = scores_of(single, 0.3, precision);
        double difference = 0;
        for (int64_t t = 0; t < 40; ++t)
            for (int64_t s = 0; s <= t; ++s)
                difference =
                    std::max(difference, std::abs(static_cast<double>(got.data<float>()[t * 40 + s]) -
                                                  want.data<double>()[t * 40 + s]));
        return difference / size;
    };
    CHECK(worst(IndexerPrecision::fp32) < 1e-5);
    CHECK(worst(IndexerPrecision::bf16) < 0.01);
    CHECK(worst(IndexerPrecision::int8) < 0.02);
    CHECK(worst(IndexerPrecision::fp8) < 0.1);
    CHECK(worst(IndexerPrecision::fp8) > 1e-4);
}

DEVICE_TEST_CASE("indexer precision: causal, equal keys tie, threads leave the selection alone", device) {
    const int64_t length = 67, k = 6;
    IndexerInput in = as_float32(random_indexer(1, length, 3, 16, 8));
    for (int64_t s = 0; s < length; ++s)  // seven kinds of key
        std::memcpy(in.k.data<float>() + s * 16, in.k.data<float>() + s % 7 * 16, 16 * sizeof(float));
    for (const IndexerPrecision precision : low_precisions) {
        const Selection want = on(Device{}, select_of(on(device, in), k, precision));
        CHECK(same_selection(want, oracle_select<float>(scores_of(on(device, in), 0.3, precision), k)));
        for (const int64_t last : {0, 6, 20, 65}) {
            const IndexerInput other{in.q.clone(), in.k.clone(), in.w.clone()};
            for (const Tensor& x : {other.q, other.k, other.w}) {
                const int64_t token = x.numel() / length;
                for (int64_t i = (last + 1) * token; i < x.numel(); ++i) x.data<float>()[i] *= -50;
            }
            const Selection got = on(Device{}, select_of(on(device, other), k, precision));
            for (int64_t t = 0; t <= last; ++t) CHECK(chosen(got, 0, t) == chosen(want, 0, t));
        }
        // Of equal keys the first ones are taken: whoever is chosen, all earlier ones of its kind are too.
        for (int64_t t = 0; t < length; ++t) {
            const std::vector<int32_t> row = chosen(want, 0, t);
            for (const int32_t s : row)
                if (s >= 7) CHECK(std::find(row.begin(), row.end(), s - 7) != row.end());
        }
    }
    const int threads = thread_count();
    const IndexerInput large =
        on(device, as_float32(random_indexer(2, is_emulated(device) ? 40 : 300, 4, 32, 9)));
    for (const IndexerPrecision precision : low_precisions) {
        set_thread_count(1);
        const Selection one = select_of(large, 9, precision);
        set_thread_count(3);
        CHECK(same_selection(one, select_of(large, 9, precision)));
    }
    set_thread_count(threads);
}

TEST_CASE("indexer precision: token by token decode_select selects what indexer_select does") {
    for (const int64_t length : {1, 2, 40, 67}) {
        const IndexerInput in = as_float32(random_indexer(1, length, 3, 16, 12));
        const int64_t each = indexer_panel_keys(DType::float32);
        for (const IndexerPrecision precision : {IndexerPrecision::fp32, IndexerPrecision::bf16,
                                                 IndexerPrecision::fp8, IndexerPrecision::int8}) {
            const Selection want = select_of(in, 7, precision);
            const Tensor panels = Tensor::zeros({1, (length + each - 1) / each, 16, each}, DType::float32);
            const Tensor factors = Tensor::zeros({1, length}, DType::float32);
            for (int64_t t = 0; t < length; ++t) {
                const RoundedKeys keys = rounded_keys(token_of(in.k, t), precision);
                const RoundedQueries queries =
                    rounded_queries(token_of(in.q, t), token_of(in.w, t), precision);
                store_indexer_keys(keys.k, panels, t);
                const bool scaled = keys.scales.defined();
                if (scaled) factors.data<float>()[t] = keys.scales.data<float>()[0];
                const Selection got = decode_select({queries.q, queries.w, 0.3},
                                                    {panels, t + 1, scaled ? factors : Tensor()}, 7);
                CHECK(chosen(got, 0, 0) == chosen(want, 0, t));
            }
        }
    }
}

TEST_CASE("int8_dots: every kernel gives the sums of 64-bit integers") {
    using namespace sieve::cpu;
    for (const Int8Kernel kernel : {Int8Kernel::plain, Int8Kernel::avx2, Int8Kernel::vnni}) {
        if (!is_available(kernel)) continue;
        for (const int64_t rows : {1, 3, 4, 8, 13})
            for (const int64_t groups : {1, 2, 16, 256}) {
                INFO("kernel " << static_cast<int>(kernel) << " rows " << rows << " groups " << groups);
                std::vector<int8_t> q(static_cast<size_t>(rows * groups * 4)),
                    k(static_cast<size_t>(groups * 64));
                for (size_t i = 0; i < q.size(); ++i)  // the first row has the largest sums
                    q[i] = static_cast<int8_t>(
                        i < static_cast<size_t>(groups * 4) ? -127 : static_cast<int>(i * 7919 % 255) - 127);
                for (size_t i = 0; i < k.size(); ++i)
                    k[i] = static_cast<int8_t>(i % 64 < 8 ? (i % 64 < 4 ? 127 : -127)
                                                          : static_cast<int>(i * 104729 % 255) - 127);
                const Tensor x = Tensor::empty({rows, int8_panel_keys}, DType::int32);
                int8_dots(kernel, {q.data(), k.data(), x.data<int32_t>(), rows, groups});
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t s = 0; s < int8_panel_keys; ++s) {
                        int64_t want = 0;
                        for (int64_t i = 0; i < 4 * groups; ++i)
                            want += int64_t{q[static_cast<size_t>(r * groups * 4 + i)]} *
                                    k[static_cast<size_t>(i / 4 * 64 + s * 4 + i % 4)];
                        CHECK(x.data<int32_t>()[r * int8_panel_keys + s] == want);
                    }
            }
    }
}

TEST_CASE("indexer precision: a NaN is reported as in fp32, bad requests are refused") {
    IndexerInput in = as_float32(random_indexer(1, 12, 2, 8, 20));
    in.k.data<float>()[5 * 8 + 3] = std::numeric_limits<float>::quiet_NaN();
    for (const IndexerPrecision precision : low_precisions)
        CHECK_THROWS_WITH_AS(select_of(in, 3, precision), doctest::Contains("batch row 0, query 5"), Error);
    check_error(
        "quantize_rows: x is [1,12,2,6], want rows of a power of two: fp8 rotates them by a Hadamard matrix",
        [] { select_of(as_float32(random_indexer(1, 12, 2, 6, 21)), 3, IndexerPrecision::fp8); });
    check_error("bf16_values: x is float64, want float32",
                [] { select_of(random_indexer(1, 12, 2, 8, 22), 3, IndexerPrecision::bf16); });
    const IndexerInput fine = as_float32(random_indexer(1, 3, 1, 4, 23));
    const Tensor panels = Tensor::zeros({1, 1, 4, indexer_panel_keys(DType::float32)}, DType::float32);
    check_error("decode_select: key_scales are [1,2], want [1, 3 or more]", [&] {
        decode_select({token_of(fine.q, 0), token_of(fine.w, 0), 0.3},
                      {panels, 3, Tensor::zeros({1, 2}, DType::float32)}, 2);
    });
}
