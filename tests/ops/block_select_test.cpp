#include "framework/ops/block_select/block_select.h"

#include <limits>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/block_means/block_means.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

double mean_key(const Tensor& k, int64_t row, int64_t block, int64_t j, int64_t i) {  // k [A,T,d]
    double sum = 0;
    for (int64_t s = j * block; s < (j + 1) * block; ++s)
        sum += k.data<double>()[(row * k.dim(1) + s) * k.dim(2) + i];
    return sum / static_cast<double>(block);
}

std::vector<double> linear_scores(const AttentionInput& in, int64_t block, int64_t b, int64_t t) {
    const int64_t H = in.q.dim(1), T = in.q.dim(2), d = in.q.dim(3), G = in.k.dim(1);
    std::vector<double> scores;
    for (int64_t j = 0; j < t / block; ++j) {
        double sum = 0;
        for (int64_t h = 0; h < H; ++h)
            for (int64_t i = 0; i < d; ++i)
                sum += in.q.data<double>()[((b * H + h) * T + t) * d + i] *
                       mean_key(in.k.alias({in.k.dim(0) * G, T, d}), b * G + h / (H / G), block, j, i);
        scores.push_back(sum);
    }
    return scores;
}

std::vector<double> lightning_scores(const IndexerInput& in, double scale, int64_t block, int64_t b,
                                     int64_t t) {
    const int64_t T = in.q.dim(1), heads = in.q.dim(2), d = in.q.dim(3);
    std::vector<double> scores;
    for (int64_t j = 0; j < t / block; ++j) {
        double sum = 0;
        for (int64_t h = 0; h < heads; ++h) {
            double dot = 0;
            for (int64_t i = 0; i < d; ++i)
                dot +=
                    in.q.data<double>()[((b * T + t) * heads + h) * d + i] * mean_key(in.k, b, block, j, i);
            sum += in.w.data<double>()[(b * T + t) * heads + h] * std::max(dot, 0.0);
        }
        scores.push_back(scale * sum);
    }
    return scores;
}

KeyBlocks blocks_of(const Tensor& k, int64_t block) {  // k [B,G,T,d]
    const int64_t T = k.dim(2);
    const Tensor means = block_means(k.alias({k.dim(0) * k.dim(1), T, k.dim(3)}), block);
    return {means.alias({k.dim(0), k.dim(1), T / block, k.dim(3)}), block, T};
}

Selection select(const AttentionInput& in, int64_t block, int64_t k) {
    return on(Device{}, block_select(in.q, blocks_of(in.k, block), k));
}
Selection select(const IndexerInput& in, int64_t block, int64_t k) {
    const Tensor keys = in.k.alias({in.k.dim(0), 1, in.k.dim(1), in.k.dim(2)});
    return on(Device{}, block_select(in.q, in.w, 0.3, blocks_of(keys, block), k));
}

// The last `queries` of q [B,H,T,d].
Tensor last_queries(const Tensor& q, int64_t queries, int64_t length) {
    const int64_t rows = q.dim(0) * q.dim(1), T = q.dim(2), d = q.dim(3);
    const Tensor last = Tensor::empty({rows, queries, d}, q.dtype());
    for (int64_t r = 0; r < rows; ++r)
        last.rows(r, r + 1).copy_from(
            q.alias({rows * T, d}).rows(r * T + length - queries, r * T + length).alias({1, queries, d}));
    return last.alias({q.dim(0), q.dim(1), queries, d});
}

}  // namespace

DEVICE_TEST_CASE("block_select: against the definition", device) {
    for (const int64_t length : {0, 1, 7, 33, 61})
        for (const int64_t block : {1, 3, 8, 40})
            for (const int64_t k : {int64_t{1}, int64_t{5}, int64_t{8}, int64_t{17}, length + 2}) {
                if (is_emulated(device) && (length > 33 || k == 8)) continue;
                INFO("T " << length << " n " << block << " k " << k);
                const AttentionInput in = random_attention(6, 2, 5, select_all(2, length), 1);
                const IndexerInput indexer = random_indexer(2, length, 3, 5, 4);
                const Selection linear = select(on(device, in), block, k),
                                lightning = select(on(device, indexer), block, k);
                CHECK(linear.indices.shape() == Shape{2, length, std::min(k, length)});
                for (int64_t row = 0; row < 2 * length; ++row) {
                    const int64_t b = row / length, t = row % length;
                    CHECK(chosen(linear, b, t) == oracle_blocks(linear_scores(in, block, b, t), t, block, k));
                    CHECK(chosen(lightning, b, t) ==
                          oracle_blocks(lightning_scores(indexer, 0.3, block, b, t), t, block, k));
                }
            }
}

DEVICE_TEST_CASE("block_select: equal blocks go to the lower one, in float32", device) {
    const int64_t length = 50, block = 4, k = 9;
    const Tensor zeros = Tensor::zeros({1, 2, length, 3}).to(device);
    const Selection got = on(Device{}, block_select(zeros, blocks_of(zeros, block), k));
    for (int64_t t = 0; t < length; ++t)
        CHECK(chosen(got, 0, t) ==
              oracle_blocks(std::vector<double>(static_cast<size_t>(t / block)), t, block, k));
}

DEVICE_TEST_CASE("block_select: a query alone has the row that all have together", device) {
    const int64_t length = 41, block = 4, k = 11;
    const AttentionInput in = as_float32(random_attention(4, 2, 33, select_all(2, length), 7));
    const Selection want = select(on(device, in), block, k);
    for (int64_t n = 1; n <= length; ++n) {
        KeyBlocks keys = blocks_of(in.k.to(device), block);
        keys.length = n;
        const Selection got = on(Device{}, block_select(last_queries(in.q, 1, n).to(device), keys, k));
        for (int64_t b = 0; b < 2; ++b) CHECK(chosen(got, b, 0) == chosen(want, b, n - 1));
    }
}

TEST_CASE("block_select: the same on one and two threads") {
    const AttentionInput in = as_float32(random_attention(4, 2, 16, select_all(1, 300), 8));
    const int before = thread_count();
    set_thread_count(1);
    const Selection one = select(in, 8, 40);
    set_thread_count(2);
    CHECK(same_selection(one, select(in, 8, 40)));
    set_thread_count(before);
}

TEST_CASE("block_select: errors") {
    const Tensor q = Tensor::zeros({1, 4, 6, 5}), means = Tensor::zeros({1, 2, 3, 5});
    check_error("block_select: top_k is 0, want at least 1", [&] { block_select(q, {means, 2, 6}, 0); });
    check_error("block_select: block is 0, want at least 1", [&] { block_select(q, {means, 0, 6}, 2); });
    check_error("block_select: means are [1,2,3,5], want those of 6 blocks", [&] {
        block_select(q, {means, 1, 6}, 2);
    });
    check_error("block_select: length is 5, want at least the 6 queries", [&] {
        block_select(q, {means, 2, 5}, 2);
    });
    check_error("block_select: q has 4 heads, want a multiple of the 3 of the means", [&] {
        block_select(q, {Tensor::zeros({1, 3, 3, 5}), 2, 6}, 2);
    });
    check_error("block_select: means is [1,2,3,4], want [1,2,3,5], q is [1,4,6,5]", [&] {
        block_select(q, {Tensor::zeros({1, 2, 3, 4}), 2, 6}, 2);
    });
    check_error("block_select: w is [1,6,2], want [1,6,3], q is [1,6,3,5]", [&] {
        block_select(Tensor::zeros({1, 6, 3, 5}), Tensor::zeros({1, 6, 2}), 1,
                     {Tensor::zeros({1, 1, 3, 5}), 2, 6}, 2);
    });
    const Tensor bad = q.clone();
    bad.data<float>()[5 * 5] = std::numeric_limits<float>::quiet_NaN();
    check_error("block_select: a score of batch row 0, query 5 is NaN", [&] {
        block_select(bad, {means, 2, 6}, 3);
    });
}
