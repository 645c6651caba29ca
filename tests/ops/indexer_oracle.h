// Slow, obvious double versions of the indexer ops, shared by their tests. Everything is materialised.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"
#include "tests/support/attention_testing.h"
#include "tests/support/testing.h"

namespace sieve::testing {

// Multiples of 1/8 below 16 in size: bfloat16 and tf32 hold them exactly, so that products of two such
// numbers have the same sign in every precision. (A product that rounding carries over the kink of a ReLU
// changes a gradient by a whole term.)
inline Tensor coarse(const Tensor& x) {
    const Tensor y = x.to(DType::float64).clone();
    for (int64_t i = 0; i < y.numel(); ++i) {
        double& v = y.data<double>()[i];
        v = std::clamp(std::round(v * 8) / 8, -15.0, 15.0);
    }
    return y.to(x.dtype());
}

// Precisions that round, with the normalised squared error that they may cause.
struct Rounding {
    Precision precision;
    double error;
};
constexpr Rounding roundings[] = {{Precision::tf32, 1e-5}, {Precision::bf16, 1e-3}};

struct IndexerInput {
    Tensor q, k, w;  // [B,T,HI,dI], [B,T,dI], [B,T,HI]
};

inline IndexerInput random_indexer(int64_t batch, int64_t length, int64_t heads, int64_t width,
                                   uint64_t seed) {
    return {random_normal({batch, length, heads, width}, seed),
            random_normal({batch, length, width}, seed + 1), random_normal({batch, length, heads}, seed + 2)};
}

inline IndexerInput as_float32(const IndexerInput& in) {
    return {in.q.to(DType::float32), in.k.to(DType::float32), in.w.to(DType::float32)};
}

inline IndexerInput on(Device device, const IndexerInput& in) {
    return {in.q.to(device), in.k.to(device), in.w.to(device)};
}
inline Selection on(Device device, const Selection& selection) {
    return {selection.indices.to(device), selection.counts.to(device)};
}

inline const IndexerInput& with_gradients(const IndexerInput& in) {
    for (const Tensor& t : {in.q, in.k, in.w}) t.set_requires_grad(true);
    return in;
}

inline double oracle_score(const IndexerInput& in, double scale, int64_t b, int64_t t, int64_t s) {
    const int64_t length = in.q.dim(1), heads = in.q.dim(2), width = in.q.dim(3);
    double sum = 0;
    for (int64_t j = 0; j < heads; ++j) {
        double dot = 0;
        for (int64_t i = 0; i < width; ++i)
            dot += in.q.data<double>()[((b * length + t) * heads + j) * width + i] *
                   in.k.data<double>()[(b * length + s) * width + i];
        sum += in.w.data<double>()[(b * length + t) * heads + j] * std::max(dot, 0.0);
    }
    return scale * sum;
}

// Adds what dI[b,t,s] = g (before the scale) gives dq, dk and dw, in that order.
inline void add_score_gradient(const IndexerInput& in, int64_t b, int64_t t, int64_t s, double g,
                               const std::vector<Tensor>& d) {
    const int64_t length = in.q.dim(1), heads = in.q.dim(2), width = in.q.dim(3);
    const int64_t row = b * length + t, key = b * length + s;
    const double* k = in.k.data<double>() + key * width;
    for (int64_t j = row * heads; j < (row + 1) * heads; ++j) {
        const double* q = in.q.data<double>() + j * width;
        const double x = std::inner_product(q, q + width, k, 0.0), w = in.w.data<double>()[j];
        if (x <= 0) continue;
        d[2].data<double>()[j] += g * x;
        for (int64_t i = 0; i < width; ++i) {
            d[0].data<double>()[j * width + i] += g * w * k[i];
            d[1].data<double>()[key * width + i] += g * w * q[i];
        }
    }
}

inline Tensor oracle_scores(const IndexerInput& in, double scale) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(1);
    const Tensor scores =
        Tensor::full({batch, length, length}, -std::numeric_limits<double>::infinity(), DType::float64);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < length; ++t)
            for (int64_t s = 0; s <= t; ++s)
                scores.data<double>()[(b * length + t) * length + s] = oracle_score(in, scale, b, t, s);
    return scores;
}

// The keys of the best min(k, n) of row[0..n), ascending.
template <class T>
std::vector<int32_t> oracle_top(const T* row, int64_t n, int64_t k) {
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    order.resize(static_cast<size_t>(std::min(k, n)));
    std::sort(order.begin(), order.end());
    return order;
}

// What query t reads, of blocks of `block` keys, when past block j has scores[j].
inline std::vector<int32_t> oracle_blocks(const std::vector<double>& scores, int64_t t, int64_t block,
                                          int64_t k) {
    const int64_t count = std::min(k, t + 1), own = t / block * block;
    std::vector<int32_t> keys;
    for (int64_t m = 0;; ++m) {  // one more block until there are enough
        std::vector<int32_t> blocks = oracle_top(scores.data(), own / block, m);
        keys.clear();
        for (const int32_t j : blocks)
            for (int64_t i = 0; i < block; ++i) keys.push_back(static_cast<int32_t>(j * block + i));
        for (int64_t s = own; s <= t; ++s) keys.push_back(static_cast<int32_t>(s));
        if (static_cast<int64_t>(keys.size()) >= count) break;
    }
    return {keys.end() - count, keys.end()};
}

// Of a selection on the CPU.
inline std::vector<int32_t> chosen(const Selection& selection, int64_t b, int64_t t) {
    const int64_t length = selection.indices.dim(1), slots = selection.indices.dim(2), row = b * length + t;
    const int32_t* first = selection.indices.data<int32_t>() + row * slots;
    return {first, first + selection.counts.data<int32_t>()[row]};
}

template <class T>
Selection oracle_select(const Tensor& scores, int64_t k) {
    const int64_t batch = scores.dim(0), length = scores.dim(1), slots = std::min(k, length);
    const Selection out{Tensor::zeros({batch, length, slots}, DType::int32),
                        Tensor::zeros({batch, length}, DType::int32)};
    for (int64_t row = 0; row < batch * length; ++row) {
        const std::vector<int32_t> top = oracle_top(scores.data<T>() + row * length, row % length + 1, k);
        std::copy(top.begin(), top.end(), out.indices.data<int32_t>() + row * slots);
        out.counts.data<int32_t>()[row] = static_cast<int32_t>(top.size());
    }
    return out;
}

inline bool same_selection(const Selection& a, const Selection& b) {
    return bit_identical(a.indices, b.indices) && bit_identical(a.counts, b.counts);
}

// Selects every key of the past.
inline Selection select_all(int64_t batch, int64_t length) {
    return oracle_select<double>(Tensor::zeros({batch, length, length}, DType::float64), length);
}

struct AttentionInput {
    Tensor q, k, lse;  // [B,H,T,dh], [B,G,T,dh], [B,H,T]
    double scale;
};

inline MainAttention main_attention(const AttentionInput& in) {
    return {in.q, in.k, in.scale};
}

inline double oracle_logit(const AttentionInput& in, int64_t b, int64_t h, int64_t t, int64_t s) {
    const int64_t heads = in.q.dim(1), length = in.q.dim(2), width = in.q.dim(3), groups = in.k.dim(1);
    const double* q = in.q.data<double>() + ((b * heads + h) * length + t) * width;
    const double* k = in.k.data<double>() + ((b * groups + h / (heads / groups)) * length + s) * width;
    return in.scale * std::inner_product(q, q + width, k, 0.0);
}

// Random q and k, with lse over the selected keys.
inline AttentionInput random_attention(int64_t heads, int64_t groups, int64_t width,
                                       const Selection& selection, uint64_t seed) {
    const int64_t batch = selection.counts.dim(0), length = selection.counts.dim(1);
    const AttentionInput in{random_normal({batch, heads, length, width}, seed),
                            random_normal({batch, groups, length, width}, seed + 1),
                            Tensor::zeros({batch, heads, length}, DType::float64), 0.7};
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t h = 0; h < heads; ++h)
            for (int64_t t = 0; t < length; ++t) {
                double sum = 0, largest = -std::numeric_limits<double>::infinity();
                const std::vector<int32_t> keys = chosen(selection, b, t);
                for (const int32_t s : keys) largest = std::max(largest, oracle_logit(in, b, h, t, s));
                for (const int32_t s : keys) sum += std::exp(oracle_logit(in, b, h, t, s) - largest);
                in.lse.data<double>()[(b * heads + h) * length + t] = largest + std::log(sum);
            }
    return in;
}

inline AttentionInput on(Device device, const AttentionInput& in) {
    return {in.q.to(device), in.k.to(device), in.lse.to(device), in.scale};
}

inline AttentionInput as_float32(const AttentionInput& in) {
    return {in.q.to(DType::float32), in.k.to(DType::float32), in.lse.to(DType::float32), in.scale};
}

// p[t,s], the mean over heads.
inline double oracle_target(const AttentionInput& in, int64_t b, int64_t t, int64_t s) {
    const int64_t heads = in.q.dim(1), length = in.q.dim(2);
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h)
        sum += std::exp(oracle_logit(in, b, h, t, s) - in.lse.data<double>()[(b * heads + h) * length + t]);
    return sum / static_cast<double>(heads);
}

}  // namespace sieve::testing
