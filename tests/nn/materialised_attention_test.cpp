#include "framework/nn/materialised_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/ops/causal_mask/causal_mask.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/head_parts/head_parts.h"
#include "framework/ops/leaking_mask/leaking_mask.h"
#include "framework/ops/sparse_attention/sparse_attention.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// min(k, t + 1) of the keys 0..t of each query t, others for each.
Selection scattered_selection(int64_t B, int64_t T, int64_t k) {
    const int64_t slots = std::min(k, T);
    const Tensor order = random_normal({B, T, T}, 9);
    std::vector<int32_t> indices(static_cast<size_t>(B * T * slots), 0), counts;
    for (int64_t row = 0; row < B * T; ++row) {
        const int64_t t = row % T, count = std::min(slots, t + 1);
        std::vector<int32_t> keys(static_cast<size_t>(t + 1));
        std::iota(keys.begin(), keys.end(), 0);
        const double* rank = order.data<double>() + row * T;
        std::sort(keys.begin(), keys.end(), [&](int32_t a, int32_t b) { return rank[a] > rank[b]; });
        std::sort(keys.begin(), keys.begin() + count);
        std::copy_n(keys.begin(), count, indices.begin() + row * slots);
        counts.push_back(static_cast<int32_t>(count));
    }
    return {Tensor::from(indices, {B, T, slots}), Tensor::from(counts, {B, T})};
}

Selection on(const Selection& selection, Device device) {
    return {selection.indices.to(device), selection.counts.to(device)};
}

// What the original's selector reads: all keys in the order of (not in the future, index), the first k of them.
bool original_reads(const Selection& selection, int64_t b, int64_t t, int64_t s) {
    const int64_t T = selection.counts.dim(1), slots = selection.indices.dim(2), row = b * T + t;
    const int32_t* keys = selection.indices.data<int32_t>() + row * slots;
    const int64_t count = selection.counts.data<int32_t>()[row], missing = slots - count;
    if (s > t) return s <= t + missing;
    return std::find(keys, keys + count, static_cast<int32_t>(s)) != keys + count;
}

}  // namespace

DEVICE_TEST_CASE("leaking_mask: the selected keys, and as many of the next ones as slots are free", device) {
    for (const auto& sizes : std::vector<std::array<int64_t, 4>>{{1, 1, 1, 1},
                                                                 {2, 3, 7, 3},
                                                                 {1, 2, 33, 32},
                                                                 {2, 1, 5, 5},
                                                                 {1, 2, 6, 50},
                                                                 {3, 1, 8, 1},
                                                                 {0, 2, 4, 2}}) {
        const int64_t B = sizes[0], R = sizes[1], T = sizes[2], k = sizes[3];
        INFO("B " << B << " R " << R << " T " << T << " k " << k);
        const Selection selection = scattered_selection(B, T, k);
        const Tensor x = random_normal({B, R * T, T}, 1), masked = x.to(device).clone();
        leaking_mask(masked, on(selection, device));
        const std::vector<double> got = masked.to_vector<double>();
        for (int64_t i = 0; i < x.numel(); ++i) {
            const bool read = original_reads(selection, i / (R * T * T), i / T % T, i % T);
            CHECK(got[static_cast<size_t>(i)] == (read ? x.data<double>()[i] : -INFINITY));
        }
    }
    check_error("leaking_mask: scores are [2,4,3], want [B, R*T, T] with T >= 1", [] {
        leaking_mask(Tensor::zeros({2, 4, 3}), scattered_selection(2, 3, 2));
    });
    check_error("leaking_mask: the selection's indices is [2,4,2], want [2,3,2], a row for each query", [] {
        leaking_mask(Tensor::zeros({2, 6, 3}), scattered_selection(2, 4, 2));
    });
}

DEVICE_TEST_CASE("leaking_attention: from row k - 1 on it is sparse attention, and gradients are its own",
                 device) {
    for (const auto& sizes : std::vector<std::array<int64_t, 5>>{
             {1, 1, 1, 1, 1}, {2, 4, 2, 9, 4}, {1, 3, 1, 7, 7}, {2, 2, 2, 33, 1}}) {
        const int64_t B = sizes[0], H = sizes[1], G = sizes[2], T = sizes[3], k = sizes[4];
        INFO("H " << H << " G " << G << " T " << T << " k " << k);
        const Selection selection = on(scattered_selection(B, T, k), device);
        const auto operand = [&](int64_t heads, uint64_t seed) {
            return random_normal({B, heads, T, 3}, seed).to(device).set_requires_grad(true);
        };
        const std::vector<Tensor> in{operand(H, 4), operand(G, 5), operand(G, 6)};
        const Tensor leaking = leaking_attention(in[0], in[1], in[2], selection, 0.6).to(Device{}),
                     sparse = sparse_attention(in[0], in[1], in[2], selection, 0.6).out.to(Device{});
        for (int64_t b = 0; b < B; ++b) {
            const auto rows = [&](const Tensor& x, int64_t begin, int64_t end) {
                return x.alias({B * T, H * 3}).rows(b * T + begin, b * T + end);
            };
            const int64_t first = std::min(k, T) - 1;
            CHECK(max_abs_difference(rows(leaking, first, T), rows(sparse, first, T)) < 1e-12);
            for (int64_t t = 0; t < first; ++t)
                CHECK(max_abs_difference(rows(leaking, t, t + 1), rows(sparse, t, t + 1)) > 1e-6);
        }
        if (T > 9) continue;
        check_gradients("leaking_attention",
                        [&](const std::vector<Tensor>& x) {
                            return std::vector<Tensor>{leaking_attention(x[0], x[1], x[2], selection, 0.6)};
                        },
                        in, {.device = device});
    }
}

DEVICE_TEST_CASE("mask_future: hides what lies above the diagonal, in each square", device) {
    const Tensor x = random_normal({2, 6, 3}, 1);  // two squares below each other in each matrix
    const Tensor masked = x.to(device).clone();
    mask_future(masked);
    const std::vector<double> got = masked.to_vector<double>();
    for (int64_t i = 0; i < x.numel(); ++i)
        CHECK(got[static_cast<size_t>(i)] == (i % 3 > i / 3 % 3 ? -INFINITY : x.data<double>()[i]));
    check_error("mask_future: scores are [2,4,3], want [..., R*T, T] with T >= 1", [] {
        mask_future(Tensor::zeros({2, 4, 3}));
    });
}

DEVICE_TEST_CASE("merge_heads: heads side by side in a token, and back", device) {
    const Tensor x = random_normal({2, 3, 5, 4}, 2);
    const Tensor y = merge_heads(x.to(device)).to(Device{});
    REQUIRE(y.shape() == Shape{2, 5, 12});
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 3; ++h)
            for (int64_t t = 0; t < 5; ++t)
                for (int64_t j = 0; j < 4; ++j)
                    CHECK(y.data<double>()[(b * 5 + t) * 12 + h * 4 + j] ==
                          x.data<double>()[((b * 3 + h) * 5 + t) * 4 + j]);
    CHECK(merge_heads(Tensor::zeros({0, 2, 3, 1})).shape() == Shape{0, 3, 2});
    check_gradients("merge_heads",
                    [](const std::vector<Tensor>& in) { return std::vector<Tensor>{merge_heads(in[0])}; },
                    {random_normal({2, 3, 5, 2}, 3).set_requires_grad(true)}, {.device = device});
}

DEVICE_TEST_CASE("materialised attention: dense attention's results and gradients, with shared keys too",
                 device) {
    for (const auto& sizes : std::vector<std::array<int64_t, 6>>{
             {1, 1, 1, 1, 1, 1}, {2, 3, 3, 7, 4, 4}, {2, 4, 2, 33, 3, 5}, {1, 6, 1, 5, 2, 3}}) {
        const int64_t B = sizes[0], H = sizes[1], G = sizes[2], T = sizes[3], dh = sizes[4], dv = sizes[5];
        INFO("H " << H << " G " << G << " T " << T);
        std::vector<std::vector<Tensor>> results;
        for (const bool materialised : {false, true}) {
            std::vector<Tensor> in;
            for (const auto& [shape, seed] : std::vector<std::pair<Shape, uint64_t>>{
                     {{B, H, T, dh}, 4}, {{B, G, T, dh}, 5}, {{B, G, T, dv}, 6}})
                in.push_back(random_normal(shape, seed).to(device).set_requires_grad(true));
            const Tensor out = materialised ? materialised_attention(in[0], in[1], in[2], 0.6)
                                            : dense_attention(in[0], in[1], in[2], 0.6).out;
            backward({out}, {random_normal({B, T, H * dv}, 7).to(device)});
            results.push_back({out, in[0].grad(), in[1].grad(), in[2].grad()});
        }
        for (size_t i = 0; i < 4; ++i) CHECK(max_abs_difference(results[0][i], results[1][i]) < 1e-12);
    }
}
