#include "framework/ops/decode_select/decode_select.h"

#include <limits>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// Token t of x [B,T,...] as [B,1,...].
Tensor token_of(const Tensor& x, int64_t t) {
    Shape shape{x.dim(0), 1};
    for (int i = 2; i < x.rank(); ++i) shape.append(x.dim(i));
    const Tensor token = Tensor::empty(shape, x.dtype());
    for (int64_t b = 0; b < x.dim(0); ++b)
        token.rows(b, b + 1).copy_from(x.rows(b, b + 1)
                                           .alias(Shape{x.dim(1), token.numel() / x.dim(0)})
                                           .rows(t, t + 1)
                                           .alias(token.rows(b, b + 1).shape()));
    return token;
}

Tensor empty_panels(int64_t batch, int64_t keys, int64_t width, DType dtype) {
    const int64_t each = indexer_panel_keys(dtype);
    return Tensor::zeros({batch, (keys + each - 1) / each, width, each}, dtype);
}

// Every row of indexer_select, made token by token.
void check_rows(const IndexerInput& in, int64_t k) {
    const int64_t B = in.q.dim(0), T = in.q.dim(1);
    const Selection want = indexer_select({in.q, in.k, in.w, 0.3}, k);
    const Tensor panels = empty_panels(B, T, in.k.dim(2), in.k.dtype());
    for (int64_t t = 0; t < T; ++t) {
        store_indexer_keys(token_of(in.k, t), panels, t);
        const Selection got = decode_select({token_of(in.q, t), token_of(in.w, t), 0.3}, {panels, t + 1}, k);
        CHECK(got.indices.shape() == Shape{B, 1, std::min(k, t + 1)});
        for (int64_t b = 0; b < B; ++b) CHECK_MESSAGE(chosen(got, b, 0) == chosen(want, b, t), "t " << t);
    }
}

}  // namespace

TEST_CASE("decode_select: token by token it selects what indexer_select does") {
    for (const int64_t T : {1, 2, 31, 65, 130})
        for (const int64_t k : {int64_t{1}, int64_t{7}, T}) {
            INFO("T " << T << " k " << k);
            const IndexerInput in = random_indexer(2, T, 3, 5, 1);
            check_rows(in, k);
            check_rows(as_float32(in), k);
        }
    check_rows(as_float32(random_indexer(1, 200, 5, 33, 2)), 16);
}

TEST_CASE("decode_select: equal keys tie, the lower index wins; ReLU zeros tie too") {
    IndexerInput in = as_float32(random_indexer(1, 100, 2, 6, 3));
    for (int64_t s = 0; s < 100; ++s)  // five different keys, and keys of zeros
        for (int64_t i = 0; i < 6; ++i)
            in.k.data<float>()[s * 6 + i] = s % 7 == 0 ? 0 : in.k.data<float>()[s % 5 * 6 + i];
    for (const int64_t k : {1, 4, 20, 50}) check_rows(in, k);
}

TEST_CASE("decode_select: keys stored together are keys stored one by one; threads leave the bits alone") {
    const IndexerInput in = as_float32(random_indexer(1, 3000, 8, 64, 4));
    const Tensor panels = empty_panels(1, 3000, 64, DType::float32),
                 single = empty_panels(1, 3000, 64, DType::float32);
    store_indexer_keys(in.k, panels, 0);
    for (int64_t t = 0; t < 3000; ++t) store_indexer_keys(token_of(in.k, t), single, t);
    CHECK(bit_identical(panels, single));
    const int before = thread_count();
    const auto select = [&](int threads) {
        set_thread_count(threads);
        return decode_select({token_of(in.q, 2999), token_of(in.w, 2999)}, {panels, 3000}, 50);
    };
    CHECK(same_selection(select(1), select(3)));
    set_thread_count(before);
}

TEST_CASE("decode_select: errors") {
    const Tensor q = random_normal({1, 1, 2, 4}, 1), w = random_normal({1, 1, 2}, 2);
    const Tensor panels = empty_panels(1, 32, 4, DType::float64);
    store_indexer_keys(random_normal({1, 32, 4}, 3), panels, 0);
    const auto refuse = [&](const std::string& message, const Tensor& q_, const Tensor& panels_,
                            const Tensor& w_, int64_t length, int64_t k) {
        check_error("decode_select: " + message, [&] { decode_select({q_, w_}, {panels_, length}, k); });
    };
    refuse("length is 0, want 1 to the capacity 32", q, panels, w, 0, 3);
    refuse("length is 33, want 1 to the capacity 32", q, panels, w, 33, 3);
    refuse("top_k is 0, want at least 1", q, panels, w, 32, 0);
    refuse("indexer q is [1,2,2,4], want [1,1,2,4], one token", random_normal({1, 2, 2, 4}, 1), panels, w, 32,
           3);
    refuse("indexer q is [1,1,0,4], want at least one head and one dim", Tensor::zeros({1, 1, 0, 4}), panels,
           w, 32, 3);
    refuse("indexer w is [1,1,3], want [1,1,2], indexer q is [1,1,2,4]", q, panels,
           random_normal({1, 1, 3}, 1), 32, 3);
    refuse("panels is [1,1,5,32], want [1,1,4,32]", q, empty_panels(1, 32, 5, DType::float64), w, 32, 3);
    check_error("store_indexer_keys: 2 keys from 31 on do not fit into panels of 32", [&] {
        store_indexer_keys(random_normal({1, 2, 4}, 1), panels, 31);
    });
    const Tensor bad = Tensor::full({1, 1, 2, 4}, std::numeric_limits<double>::quiet_NaN(), DType::float64);
    refuse("a score of batch row 0, query 0 is NaN", bad, panels, w, 32, 3);
    CHECK(decode_select({bad, w}, {panels, 32}, 32).counts.data<int32_t>()[0] == 32);  // nothing to compare
}
