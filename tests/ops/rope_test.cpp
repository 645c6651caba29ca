#include "framework/ops/rope/rope.h"

#include <cmath>

#include "framework/core/allocator.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// Complex multiplication, one pair at a time.
Tensor slow_rope(const Tensor& x, const RopeConfig& c) {
    const int64_t B = x.dim(0), T = x.dim(1), H = x.dim(2), dh = x.dim(3),
                  R = c.rotary_dims ? c.rotary_dims : dh;
    const Tensor y = x.clone();
    for (int64_t b = 0; b < B; ++b)
        for (int64_t t = 0; t < T; ++t)
            for (int64_t h = 0; h < H; ++h)
                for (int64_t i = 0; i < R / 2; ++i) {
                    const double angle =
                        static_cast<double>(c.positions.first + t) *
                        std::pow(c.angles.base, -2.0 * static_cast<double>(i) / static_cast<double>(R));
                    const int64_t row = ((b * T + t) * H + h) * dh;
                    const bool pairs = c.layout == RopeLayout::interleaved;
                    const int64_t iu = row + (pairs ? 2 * i : i), iv = row + (pairs ? 2 * i + 1 : R / 2 + i);
                    const double u = x.data<double>()[iu], v = x.data<double>()[iv];
                    y.data<double>()[iu] = u * std::cos(angle) - v * std::sin(angle);
                    y.data<double>()[iv] = u * std::sin(angle) + v * std::cos(angle);
                }
    return y;
}

// YaRN's frequency of pair i, from the turns that it makes within the original length: at beta_fast turns and
// more its own, at beta_slow and fewer a factor lower, with the bounds moved outwards to whole pairs.
double slow_yarn_frequency(double base, const YarnScaling& yarn, int64_t dims, int64_t i) {
    const double pi = std::acos(-1.0), R = static_cast<double>(dims);
    const auto own = [&](double pair) { return std::pow(base, -2 * pair / R); };
    const auto turns = [&](double pair) {
        return static_cast<double>(yarn.original_length) * own(pair) / (2 * pi);
    };
    double low = 0, high = R - 1;
    while (low + 1 < R && turns(low + 1) >= yarn.beta_fast) ++low;
    while (high > 0 && turns(high - 1) <= yarn.beta_slow) --high;
    const auto at = static_cast<double>(i);
    if (at <= low) return own(at);
    if (at >= high) return own(at) / yarn.factor;
    const double share = (at - low) / (high - low);
    return (1 - share) * own(at) + share * own(at) / yarn.factor;
}

// [B,T,parts,dh] -> heads [first, first + count) as [B,count,T,dh]
Tensor slow_heads(const Tensor& x, int64_t first, int64_t count) {
    const int64_t B = x.dim(0), T = x.dim(1), P = x.dim(2), dh = x.dim(3);
    const Tensor y = Tensor::empty({B, count, T, dh}, x.dtype());
    for (int64_t b = 0; b < B; ++b)
        for (int64_t h = 0; h < count; ++h)
            for (int64_t t = 0; t < T; ++t)
                for (int64_t i = 0; i < dh; ++i)
                    y.data<double>()[((b * count + h) * T + t) * dh + i] =
                        x.data<double>()[((b * T + t) * P + first + h) * dh + i];
    return y;
}

}  // namespace

DEVICE_TEST_CASE("rope: values in both layouts, partial rotation and shifted positions", device) {
    for (const RopeLayout layout : {RopeLayout::interleaved, RopeLayout::half_split})
        for (const int64_t dims : {0, 2, 6})
            for (const int64_t first : {0, 100}) {
                const RopeConfig config{.layout = layout,
                                        .rotary_dims = dims,
                                        .angles = {.base = 500},
                                        .positions = {.first = first}};
                const Tensor x = random_normal({2, 7, 3, 10}, 1);
                CHECK(max_abs_difference(rope(x.to(device), config), slow_rope(x, config)) < 1e-14);
                CHECK(max_abs_difference(rope(x.to(DType::float32).to(device), config),
                                         slow_rope(x, config)) < 1e-6);
            }
}

TEST_CASE("rope: YaRN's frequencies") {
    for (const double base : {100.0, 10000.0})
        for (const int64_t length : {32, 4096})
            for (const int64_t dims : {4, 10, 64})
                for (const auto& [fast, slow] : {std::pair{32.0, 1.0}, {4.0, 0.5}, {2.0, 2.0}}) {
                    const RopeAngles angles{
                        .base = base,
                        .yarn = YarnScaling{
                            .factor = 40, .original_length = length, .beta_fast = fast, .beta_slow = slow}};
                    const std::vector<double> got = angles.frequencies(dims);
                    REQUIRE(got.size() == static_cast<size_t>(dims / 2));
                    for (int64_t i = 0; i < dims / 2; ++i) {
                        INFO("base " << base << " L " << length << " R " << dims << " beta " << fast
                                     << " pair " << i);
                        CHECK(
                            got[static_cast<size_t>(i)] ==
                            doctest::Approx(slow_yarn_frequency(base, *angles.yarn, dims, i)).epsilon(1e-12));
                    }
                }
    // Those of DeepSeek-V3's configuration, from transformers 5.24.0.
    const RopeAngles v3{.yarn = YarnScaling{40, 4096, 32, 1}};
    const std::vector<double> got = v3.frequencies(64);
    CHECK(got[0] == 1.0);
    CHECK(got[10] == doctest::Approx(0.0562341288).epsilon(1e-6));
    CHECK(got[16] == doctest::Approx(0.00550000044).epsilon(1e-6));
    CHECK(got[31] == doctest::Approx(3.33380353e-06).epsilon(1e-6));
}

DEVICE_TEST_CASE("rope: YaRN turns by its frequencies and lengthens by its magnitude", device) {
    const RopeAngles angles{.base = 10, .yarn = YarnScaling{4, 16, 2, 0.5, 1.25}};
    const Tensor x = random_normal({1, 20, 2, 10}, 1);
    for (const RopeLayout layout : {RopeLayout::interleaved, RopeLayout::half_split}) {
        const RopeConfig config{.layout = layout, .rotary_dims = 8, .angles = angles};
        const Tensor y = rope(x.to(device), config).to(Device{});
        for (int64_t t = 0; t < 20; ++t)
            for (int64_t i = 0; i < 4; ++i) {
                const double angle = static_cast<double>(t) * slow_yarn_frequency(10, *angles.yarn, 8, i);
                const bool pairs = layout == RopeLayout::interleaved;
                const int64_t iu = (t * 2 + 1) * 10 + (pairs ? 2 * i : i), iv = pairs ? iu + 1 : iu + 4;
                const double u = x.data<double>()[iu], v = x.data<double>()[iv];
                CHECK(y.data<double>()[iu] ==
                      doctest::Approx(1.25 * (u * std::cos(angle) - v * std::sin(angle))).epsilon(1e-12));
                CHECK(y.data<double>()[iv] ==
                      doctest::Approx(1.25 * (u * std::sin(angle) + v * std::cos(angle))).epsilon(1e-12));
            }
        CHECK(y.data<double>()[8] == x.data<double>()[8]);
        check_gradients(
            "yarn", [&](const std::vector<Tensor>& in) { return std::vector<Tensor>{rope(in[0], config)}; },
            {random_normal({1, 3, 1, 10}, 2).set_requires_grad(true)}, {.device = device});
    }
}

DEVICE_TEST_CASE("rope: positions one after another have the bits of all at once", device) {
    const Tensor x = random_normal({1, 40, 2, 8}, 6, DType::float32).to(device);
    const Tensor whole = rope(x, {}).alias({40, 2, 8});
    for (const int64_t t : {0, 1, 31, 32, 39}) {
        const Tensor row = x.alias({40, 2, 8}).rows(t, t + 1).alias({1, 1, 2, 8});
        const Tensor turned = rope(row, {.positions = {.first = t}}).alias({1, 2, 8});
        CHECK(bit_identical(turned, whole.rows(t, t + 1)));
    }
}

TEST_CASE("rope: tokens that stand anywhere turn as they would there alone") {
    const Tensor x = random_normal({2, 3, 2, 8}, 6, DType::float32);
    const std::vector<int64_t> places = {7, 0, 130};
    const Tensor turned = rope(x, {.positions = {.each = places}});
    const Tensor qkv = random_normal({2, 3, 4 * 8}, 7, DType::float32);
    const QkvHeads heads = split_qkv_rope(qkv, 2, 1, {.positions = {.each = places}});
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t t = 0; t < 3; ++t) {
            INFO("row " << b << ", token " << t);
            const RopeConfig there{.positions = {.first = places[static_cast<size_t>(t)]}};
            const auto token = [&](const Tensor& all, const Shape& shape) {
                return all.alias({6, all.numel() / 6}).rows(3 * b + t, 3 * b + t + 1).alias(shape);
            };
            CHECK(bit_identical(token(turned, {1, 1, 2, 8}), rope(token(x, {1, 1, 2, 8}), there)));
            const QkvHeads alone = split_qkv_rope(token(qkv, {1, 1, 32}), 2, 1, there);
            for (const auto& [many, one] :
                 {std::pair{heads.q, alone.q}, {heads.k, alone.k}, {heads.v, alone.v}})
                for (int64_t h = 0; h < many.dim(1); ++h)
                    CHECK(bit_identical(
                        many.alias({2 * many.dim(1) * 3, 8})
                            .rows((b * many.dim(1) + h) * 3 + t, (b * many.dim(1) + h) * 3 + t + 1),
                        one.alias({many.dim(1), 8}).rows(h, h + 1)));
        }
}

DEVICE_TEST_CASE("rope: gradients", device) {
    for (const RopeLayout layout : {RopeLayout::interleaved, RopeLayout::half_split})
        for (const int64_t T : {0, 1, 2, 5, 13})
            for (const int64_t dims : {2, 4}) {
                if (is_emulated(device) && T > 5) continue;
                check_gradients(
                    "T " + std::to_string(T) + " dims " + std::to_string(dims),
                    [&](const std::vector<Tensor>& in) {
                        return std::vector<Tensor>{rope(in[0], {.layout = layout, .rotary_dims = dims})};
                    },
                    {random_normal({2, T, 3, 6}, 2).set_requires_grad(true)}, {.device = device});
            }
}

DEVICE_TEST_CASE("rope: head sizes and rotary dims with packs and without", device) {
    for (const RopeLayout layout : {RopeLayout::interleaved, RopeLayout::half_split})
        for (const int64_t head_dim : {2, 7, 8, 12, 20, 32, 64})
            for (const int64_t dims : {2, 6, 8, 16, 32, 64}) {
                if (dims > head_dim) continue;
                const auto f = [&](const std::vector<Tensor>& in) {
                    return std::vector<Tensor>{rope(in[0], {.layout = layout, .rotary_dims = dims})};
                };
                const Tensor x = random_normal({2, 9, 3, head_dim}, 5);
                for (const DType dtype : {DType::float32, DType::float64})
                    check_agrees_with_cpu("dh " + std::to_string(head_dim) + " R " + std::to_string(dims), f,
                                          {x.clone().to(dtype).set_requires_grad(true)}, device,
                                          dtype == DType::float32 ? 1e-13 : 1e-30);
            }
}

DEVICE_TEST_CASE("split_qkv_rope: equals rope and an obvious transposition", device) {
    for (const int64_t T : {0, 1, 5, 33})
        for (const int64_t G : {1, 2, 4})
            for (const int64_t dh : {6, 16}) {
                const int64_t B = 2, H = 4;
                const Tensor qkv = random_normal({B, T, (H + 2 * G) * dh}, 3);
                const Tensor parts = qkv.alias({B, T, H + 2 * G, dh});
                const QkvHeads heads = split_qkv_rope(qkv.to(device), H, G, {});
                CHECK(max_abs_difference(heads.q, slow_heads(slow_rope(parts, {}), 0, H)) < 1e-14);
                CHECK(max_abs_difference(heads.k, slow_heads(slow_rope(parts, {}), H, G)) < 1e-14);
                CHECK(max_abs_difference(heads.v, slow_heads(parts, H + G, G)) == 0);
            }
}

DEVICE_TEST_CASE("split_qkv_rope: gradients, also when only some outputs are used", device) {
    for (const int64_t dh : {4, 8})
        for (const int64_t T : {0, 1, 2, 7})
            for (const int used : {1, 2, 4, 7}) {
                if (is_emulated(device) && T * dh > 16) continue;
                check_gradients("T " + std::to_string(T) + " outputs " + std::to_string(used),
                                [&](const std::vector<Tensor>& in) {
                                    const QkvHeads h = split_qkv_rope(in[0], 2, 1, {});
                                    std::vector<Tensor> out;
                                    if (used & 1) out.push_back(h.q);
                                    if (used & 2) out.push_back(h.k);
                                    if (used & 4) out.push_back(h.v);
                                    return out;
                                },
                                {random_normal({2, T, 4 * dh}, 4).set_requires_grad(true)},
                                {.device = device});
            }
}

TEST_CASE("rope: what a table takes") {
    // Small tables of another base each, until one is dropped for the next.
    for (int base = 2; base < 10; ++base)
        rope(Tensor::zeros({1, 1, 1, 2}), {.angles = {.base = 1000.0 + base}});
    const int64_t before = memory_stats().live_bytes;
    rope(Tensor::zeros({1, 33, 1, 10}), {.angles = {.base = 1234}});
    CHECK(memory_stats().live_bytes - before ==
          rope_table_bytes(33, 10, DType::float32) - rope_table_bytes(1, 2, DType::float32));
    CHECK(rope_table_bytes(33, 10, DType::float32) == 3 * 64 * 5 * 4);
}

TEST_CASE("rope: errors") {
    check_error("rope: rotary dims are 5, want an even number up to the head size 5", [] {
        rope(Tensor::zeros({1, 2, 1, 5}), {});
    });
    check_error("rope: rotary dims are 8, want an even number up to the head size 4", [] {
        rope(Tensor::zeros({1, 2, 1, 4}), {.rotary_dims = 8});
    });
    check_error("rope: a position is -1, want at least 0", [] {
        rope(Tensor::zeros({1, 2, 1, 4}), {.positions = {.first = -1}});
    });
    check_error("rope: a position is -2, want at least 0", [] {
        rope(Tensor::zeros({1, 2, 1, 4}), {.positions = {.each = {0, -2}}});
    });
    check_error("rope: 3 positions for 2 tokens", [] {
        rope(Tensor::zeros({1, 2, 1, 4}), {.positions = {.each = {0, 1, 2}}});
    });
    check_error("rope: x is [1,2,4], want 4 dims", [] { rope(Tensor::zeros({1, 2, 4}), {}); });
    check_error(
        "split_qkv_rope: qkv is [1,2,10], want a last dim divisible by 4 (2 query and 2 x 1 key and value "
        "heads)",
        [] {
            split_qkv_rope(Tensor::zeros({1, 2, 10}), 2, 1, {});
        });
}
