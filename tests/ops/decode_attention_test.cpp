#include "framework/ops/decode_attention/decode_attention.h"

#include <limits>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/sparse_attention/sparse_attention.h"
#include "tests/ops/indexer_oracle.h"
#include "tests/support/attention_testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

const AttentionCase cases[] = {{1, 1, 1, 1, 4, 4},     {2, 2, 2, 2, 3, 5},     {2, 4, 2, 7, 7, 3},
                               {1, 6, 1, 31, 5, 1},    {2, 2, 1, 32, 1, 2},    {1, 6, 2, 33, 16, 17},
                               {3, 2, 2, 70, 33, 9},   {1, 2, 1, 330, 32, 32}, {2, 6, 2, 65, 8, 16},
                               {1, 8, 1, 129, 50, 48}, {1, 3, 1, 1, 5, 32}};

// Rows [first, first + n) of each matrix of x [A,T,w], followed by `after` rows of NaN.
Tensor rows_of(const Tensor& x, int64_t first, int64_t n, int64_t after = 0) {
    const Tensor out =
        Tensor::full({x.dim(0), n + after, x.dim(2)}, std::numeric_limits<double>::quiet_NaN(), x.dtype());
    for (int64_t a = 0; a < x.dim(0); ++a) {
        const Tensor from = x.rows(a, a + 1).alias({x.dim(1), x.dim(2)}),
                     to = out.rows(a, a + 1).alias({n + after, x.dim(2)});
        to.rows(0, n).copy_from(from.rows(first, first + n));
    }
    return out;
}

// k or v [B,G,T,w] with rows behind them that must never be read.
Tensor with_room(const Tensor& x) {
    return rows_of(x.alias({x.dim(0) * x.dim(1), x.dim(2), x.dim(3)}), 0, x.dim(2), 3)
        .alias({x.dim(0), x.dim(1), x.dim(2) + 3, x.dim(3)});
}

Selection last_row(const Selection& all) {
    const int64_t T = all.counts.dim(1);
    return {rows_of(all.indices.to(DType::float64), T - 1, 1).to(DType::int32),
            rows_of(all.counts.to(DType::float64).alias({all.counts.dim(0), T, 1}), T - 1, 1)
                .alias({all.counts.dim(0), 1})
                .to(DType::int32)};
}

// Decodes the last token of the case and compares it with the last row of `want`, bit by bit.
void check_last_row(const AttentionCase& c, const AttentionInputs& in, const AttentionOutput& want,
                    const Selection* selection) {
    const Tensor q = rows_of(in.q.alias({c.B * c.H, c.T, c.dim}), c.T - 1, 1).alias({c.B, c.H, 1, c.dim});
    const AttentionOutput got = decode_attention(q, with_room(in.k), with_room(in.v), c.T, 0.7, selection);
    CHECK(bit_identical(got.out, rows_of(want.out, c.T - 1, 1)));
    CHECK(bit_identical(got.lse,
                        rows_of(want.lse.alias({c.B * c.H, c.T, 1}), c.T - 1, 1).alias({c.B, c.H, 1})));
}

}  // namespace

TEST_CASE("decode_attention: over every key it is the last row of dense_attention, bit by bit") {
    for (const DType dtype : {DType::float32, DType::float64})
        for (const AttentionCase& c : cases) {
            INFO(name_of(c));
            const AttentionInputs in = attention_inputs(c, dtype);
            check_last_row(c, in, dense_attention(in.q, in.k, in.v, 0.7), nullptr);
        }
}

TEST_CASE("decode_attention: heads that share keys are divided among threads without a trace") {
    const int before = full_thread_count();
    for (const int64_t threads : {1, 2, 3, 5, 8, 64}) {
        set_thread_count(threads);
        for (const AttentionCase& c : {AttentionCase{1, 8, 1, 100, 24, 16}, {2, 6, 2, 70, 16, 32}}) {
            INFO(name_of(c) << " threads " << threads);
            const AttentionInputs in = attention_inputs(c, DType::float32);
            check_last_row(c, in, dense_attention(in.q, in.k, in.v, 0.7), nullptr);
        }
    }
    set_thread_count(before);
}

TEST_CASE("decode_attention: over selected keys it is the last row of sparse_attention, bit by bit") {
    for (const DType dtype : {DType::float32, DType::float64})
        for (const AttentionCase& c : cases)
            for (const int64_t k : {int64_t{1}, int64_t{5}, int64_t{40}, c.T}) {
                INFO(name_of(c) << " k " << k);
                const AttentionInputs in = attention_inputs(c, dtype);
                const Selection all = oracle_select<double>(random_normal({c.B, c.T, c.T}, 5), k);
                const Selection last = last_row(all);
                check_last_row(c, in, sparse_attention(in.q, in.k, in.v, all, 0.7), &last);
            }
}

TEST_CASE("decode_attention: an empty selection") {
    const Tensor q = random_normal({1, 2, 1, 8}, 1), k = random_normal({1, 2, 40, 8}, 2);
    const Selection none{Tensor::zeros({1, 1, 4}, DType::int32), Tensor::zeros({1, 1}, DType::int32)};
    const AttentionOutput empty = decode_attention(q, k, k, 40, 1, &none);
    CHECK(bit_identical(empty.out, Tensor::zeros({1, 1, 16}, DType::float64)));
    CHECK(empty.lse.data<double>()[1] == -std::numeric_limits<double>::infinity());
}

TEST_CASE("decode_attention: the bits do not depend on threads") {
    const Tensor q = random_normal({1, 8, 1, 32}, 1, DType::float32),
                 k = random_normal({1, 4, 5000, 32}, 2, DType::float32),
                 v = random_normal({1, 4, 5000, 32}, 3, DType::float32);
    const int before = thread_count();
    set_thread_count(1);
    const Tensor one = decode_attention(q, k, v, 4999, 0.2).out;
    set_thread_count(3);
    CHECK(bit_identical(decode_attention(q, k, v, 4999, 0.2).out, one));
    set_thread_count(before);
}

TEST_CASE("decode_attention: errors") {
    const Tensor q = random_normal({1, 4, 1, 3}, 1), k = random_normal({1, 2, 5, 3}, 2),
                 v = random_normal({1, 2, 5, 6}, 3);
    const auto refuse = [](const std::string& message, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                           int64_t length, const Selection* selection = nullptr) {
        check_error("decode_attention: " + message,
                    [&] { decode_attention(q_, k_, v_, length, 1, selection); });
    };
    refuse("length is 0, want 1 to the capacity 5", q, k, v, 0);
    refuse("length is 6, want 1 to the capacity 5", q, k, v, 6);
    refuse("q is [1,4,2,3], want [1,4,1,3], one token", random_normal({1, 4, 2, 3}, 1), k, v, 5);
    refuse("k is [1,2,5,4], want [1,2,5,3], to fit q [1,4,1,3]", q, random_normal({1, 2, 5, 4}, 1), v, 5);
    refuse("v is [1,2,4,6], want [1,2,5,6], to fit k [1,2,5,3]", q, k, random_normal({1, 2, 4, 6}, 1), 5);
    refuse("the heads of q [1,4,1,3] and v [1,2,5,0] want a last dim of at least 1", q, k,
           Tensor::zeros({1, 2, 5, 0}, DType::float64), 5);
    refuse("q has 4 heads, want a multiple of the 3 of k", q, random_normal({1, 3, 5, 3}, 1),
           random_normal({1, 3, 5, 3}, 1), 5);
    refuse("v is float32, want float64", q, k, v.to(DType::float32), 5);
    Selection selection{Tensor::from<int32_t>({1, 4}, {1, 1, 2}), Tensor::from<int32_t>({2}, {1, 1})};
    refuse("row [0,3] selects key 4, want 0 to 3", q, k, v, 4, &selection);
    selection.counts = Tensor::from<int32_t>({3}, {1, 1});
    refuse("row [0,4] selects 3 keys, want 0 to 2", q, k, v, 5, &selection);
    selection.counts = Tensor::from<int32_t>({3, 3}, {1, 2});
    refuse("the selection's counts is [1,2], want [1,1], a row for each query", q, k, v, 5, &selection);
    const Tensor leaf = random_normal({1, 4, 1, 3}, 1).set_requires_grad(true);
    refuse("has no gradient; call it under NoGrad", leaf, k, v, 5);
    const NoGrad guard;
    CHECK(decode_attention(leaf, k, v, 5, 1).out.shape() == Shape{1, 1, 24});
}
