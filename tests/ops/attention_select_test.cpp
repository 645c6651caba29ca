#include "framework/ops/attention_select/attention_select.h"

#include <limits>

#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/ops/decode_select/decode_select.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

AttentionInput random_input(int64_t heads, int64_t groups, int64_t length, uint64_t seed) {
    return random_attention(heads, groups, 5, select_all(2, length), seed);
}

// p of row (b,t), of the mean over heads.
std::vector<double> target_row(const AttentionInput& in, int64_t b, int64_t t) {
    std::vector<double> p;
    for (int64_t s = 0; s <= t; ++s) p.push_back(oracle_target(in, b, t, s));
    return p;
}

double mass_of(const std::vector<double>& p, const std::vector<int32_t>& keys) {
    double sum = 0;
    for (const int32_t s : keys) sum += p[static_cast<size_t>(s)];
    return sum;
}

Tensor panels_of(const Tensor& k) {  // [B,G,T,dh]
    const int64_t each = indexer_panel_keys(k.dtype()), rows = k.dim(0) * k.dim(1);
    const Tensor panels = Tensor::zeros({rows, (k.dim(2) + each - 1) / each, k.dim(3), each}, k.dtype());
    store_indexer_keys(k.alias({rows, k.dim(2), k.dim(3)}), panels, 0);
    return panels;
}

// Query t of q [B,H,T,dh].
Tensor query_of(const Tensor& q, int64_t t) {
    const Tensor one = Tensor::empty({q.dim(0), q.dim(1), 1, q.dim(3)}, q.dtype());
    for (int64_t row = 0; row < q.dim(0) * q.dim(1); ++row)
        one.alias({q.dim(0) * q.dim(1), q.dim(3)})
            .rows(row, row + 1)
            .copy_from(q.alias({q.dim(0) * q.dim(1) * q.dim(2), q.dim(3)})
                           .rows(row * q.dim(2) + t, row * q.dim(2) + t + 1));
    return one;
}

}  // namespace

DEVICE_TEST_CASE("attention_select: against the definition", device) {
    for (const int64_t length : {0, 1, 2, 5, 13, 33, 100})
        for (const int64_t k : {int64_t{1}, int64_t{4}, int64_t{20}, length + 3})
            for (const auto& sizes : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}}) {
                const auto heads = sizes.first, groups = sizes.second;
                if (is_emulated(device) && (length > 33 || k == 4)) continue;
                INFO("T " << length << " k " << k << " H " << heads);
                const AttentionInput in = random_input(heads, groups, length, 1);
                const auto select = [&](const AttentionInput& x) {
                    return on(Device{}, attention_select(main_attention(on(device, x)), k));
                };
                const Selection got = select(in), single = select(as_float32(in));
                CHECK(got.indices.shape() == Shape{2, length, std::min(k, length)});
                for (int64_t row = 0; row < 2 * length; ++row) {
                    const int64_t b = row / length, t = row % length;
                    const std::vector<double> p = target_row(in, b, t);
                    const std::vector<int32_t> want = oracle_top(p.data(), t + 1, k);
                    CHECK(chosen(got, b, t) == want);
                    CHECK(chosen(single, b, t).size() == want.size());
                    CHECK(mass_of(p, chosen(single, b, t)) ==
                          doctest::Approx(mass_of(p, want)).epsilon(1e-6));
                }
            }
}

DEVICE_TEST_CASE("attention_select: equal probabilities go to the lower index", device) {
    const int64_t length = 40, k = 6;
    AttentionInput in = as_float32(random_attention(2, 1, 3, select_all(1, length), 3));
    for (int64_t s = 0; s < length; ++s)  // five different keys, the best of them as often as any
        in.k.rows(0, 1)
            .alias({length, 3})
            .rows(s, s + 1)
            .copy_from(in.k.alias({length, 3}).rows(s % 5, s % 5 + 1));
    const Selection got = on(Device{}, attention_select(main_attention(on(device, in)), k));
    for (int64_t t = 0; t < length; ++t) {
        const std::vector<int32_t> keys = chosen(got, 0, t);
        for (const int32_t s : keys)
            for (int32_t earlier = s % 5; earlier < s; earlier += 5)
                CHECK(std::find(keys.begin(), keys.end(), earlier) != keys.end());
    }
    const Tensor zeros = Tensor::zeros({1, 2, length, 3});
    const Selection uniform = on(Device{}, attention_select({zeros.to(device), zeros.to(device)}, k));
    for (int64_t t = 0; t < length; ++t) CHECK(chosen(uniform, 0, t).back() == std::min(t, k - 1));
}

TEST_CASE("attention_select_next: token by token the rows of attention_select") {
    for (const auto& sizes : {std::pair<int64_t, int64_t>{3, 1}, {4, 2}})
        for (const int64_t k : {1, 7, 64, 200})
            for (const DType dtype : {DType::float32, DType::float64}) {
                const auto heads = sizes.first, groups = sizes.second;
                INFO("k " << k << " " << std::string(name_of(dtype)));
                const int64_t length = 131;
                AttentionInput in = random_input(heads, groups, length, 5);
                if (dtype == DType::float32) in = as_float32(in);
                const Selection want = attention_select(main_attention(in), k);
                const Tensor panels = panels_of(in.k);
                for (int64_t t = 0; t < length; ++t) {
                    const Selection got =
                        attention_select_next(query_of(in.q, t), in.scale, panels, t + 1, k);
                    CHECK(got.indices.shape() == Shape{2, 1, std::min(k, t + 1)});
                    for (int64_t b = 0; b < 2; ++b) CHECK(chosen(got, b, 0) == chosen(want, b, t));
                }
            }
}

TEST_CASE("attention_select: O(T) memory, the same on one and two threads") {
    const int64_t length = 2048;
    const Tensor q = random_normal({1, 2, length, 4}, 4, DType::float32);
    const int threads = thread_count();
    set_thread_count(1);
    const Selection one = attention_select({q, q, 0.5}, 3);
    set_thread_count(2);
    reset_peak_memory();
    const int64_t before = memory_stats().live_bytes;
    const Selection two = attention_select({q, q, 0.5}, 3);
    CHECK(memory_stats().peak_bytes - before < length * length * 4 / 8);
    CHECK(same_selection(one, two));
    set_thread_count(threads);
}

TEST_CASE("attention_select: errors") {
    const Tensor q = Tensor::zeros({1, 3, 4, 5});
    check_error("attention_select: top_k is 0, want at least 1", [&] { attention_select({q, q}, 0); });
    check_error("attention_select: k is [1,3,4,6], want [1,3,4,5], q is [1,3,4,5]", [&] {
        attention_select({q, Tensor::zeros({1, 3, 4, 6})}, 2);
    });
    const Tensor bad = q.clone();
    bad.data<float>()[3 * 5] = std::numeric_limits<float>::quiet_NaN();
    check_error("attention_select: a score of batch row 0, query 3 is NaN", [&] {
        attention_select({bad, q}, 2);
    });
    const Tensor one = Tensor::zeros({1, 3, 1, 5}), panels = panels_of(q);
    check_error("attention_select_next: q is [1,3,4,5], want [1,3,1,5], one token",
                [&] { attention_select_next(q, 1, panels, 4, 2); });
    check_error("attention_select_next: length is 65, want 1 to the capacity 64",
                [&] { attention_select_next(one, 1, panels, 65, 2); });
    check_error(
        "attention_select_next: q is [1,2,1,5], want its heads a multiple of the key heads of [3,1,5,64]",
        [&] {
            attention_select_next(Tensor::zeros({1, 2, 1, 5}), 1, panels, 4, 2);
        });
    check_error("attention_select_next: top_k is 0, want at least 1",
                [&] { attention_select_next(one, 1, panels, 4, 0); });
}
