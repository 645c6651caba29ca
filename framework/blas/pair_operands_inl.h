// float32 operands rounded to bfloat16 when they are packed, two steps of k in a word, for the instructions that
// multiply such pairs.
#pragma once

#include "framework/blas/kernels.h"
#include "framework/blas/product_inl.h"

namespace sieve::cpu {
namespace {

static_assert(k_block <= 2 * pairs_of_row);

class PairOperands {
  public:
    using Element = float;
    using Word = Bf16Pair;

    explicit PairOperands(const PairKernels& kernels) : kernels_(kernels) {}

    int64_t tile_rows() const { return kernels_.tile_rows; }
    int64_t tile_columns() const { return kernels_.tile_columns; }
    int64_t words(int64_t steps) const {
        return ceil_div(ceil_div(steps, 2), kernels_.pairs_at_once) * kernels_.pairs_at_once;
    }
    static bool reads_a(const Gemm<float>&, int64_t) { return false; }
    int64_t a_elements(int64_t rows, int64_t) const {
        return ceil_div(rows, kernels_.tile_rows) * kernels_.tile_rows * row_stride;
    }

    void pack_b(const Gemm<float>& g, const PartOfB& p, Bf16Pair* panel) const {
        (g.transpose_b ? kernels_.pack_b_transposed : kernels_.pack_b)({.source = first_of(g, p),
                                                                        .ld = g.ldb,
                                                                        .k = p.steps,
                                                                        .count = p.columns,
                                                                        .pairs = words(p.steps),
                                                                        .alpha = g.alpha,
                                                                        .panel = panel});
    }

    void pack_a(const Gemm<float>& g, const PartOfA& p, Bf16Pair* a) const {
        (g.transpose_a ? kernels_.pack_a_transposed : kernels_.pack_a)({.source = first_of(g, p),
                                                                        .ld = g.lda,
                                                                        .k = p.steps,
                                                                        .count = p.rows,
                                                                        .pairs = words(p.steps),
                                                                        .panel = a});
    }

    void tile(const Gemm<float>& g, const TileCall<float, Bf16Pair>& t) const {
        kernels_.tile({.rows = t.part.rows,
                       .columns = t.columns,
                       .pairs = words(t.part.steps),
                       .a = t.a + t.row_of_block * row_stride,
                       .b = t.b,
                       .accumulate = t.accumulate,
                       .c = t.c,
                       .ldc = g.ldc});
    }

    void enter() const {
        if (kernels_.enter) kernels_.enter();
    }
    void leave() const {
        if (kernels_.leave) kernels_.leave();
    }

  private:
    const PairKernels& kernels_;
};

}  // namespace
}  // namespace sieve::cpu
