// Operands as they are, in their own type; or, for machines without instructions for bfloat16, float32 operands
// rounded to it when they are packed, and multiplied in float32 (bf16_gemm.cpp).
#pragma once

#include "framework/blas/bf16_rounding.h"
#include "framework/blas/kernels.h"
#include "framework/blas/product_inl.h"

namespace sieve::cpu {
namespace {

// A is read where it lies, unpacked, when few panels of B meet it. Stored as [k,m] with long rows, each step
// of k is another memory page: then it is packed.
constexpr int64_t direct_panels = 16;
constexpr int64_t direct_lda = 1024;

template <class T>
class FloatOperands {
  public:
    using Element = T;
    using Word = T;

    explicit FloatOperands(const GemmKernels<T>& kernels, bool rounded = false)
        : kernels_(kernels), rounded_(rounded) {}

    int64_t tile_rows() const { return kernels_.tile_rows; }
    int64_t tile_columns() const { return kernels_.tile_columns; }
    static int64_t words(int64_t steps) { return steps; }
    bool reads_a(const Gemm<T>& g, int64_t panels) const {
        return !rounded_ && panels <= direct_panels && (!g.transpose_a || g.lda <= direct_lda);
    }
    int64_t a_elements(int64_t rows, int64_t steps) const {
        return ceil_div(rows, kernels_.tile_rows) * kernels_.tile_rows * steps;
    }

    void pack_b(const Gemm<T>& g, const PartOfB& p, T* panel) const {
        (g.transpose_b ? kernels_.pack_b_transposed : kernels_.pack_b)(
            {.source = first_of(g, p), .ld = g.ldb, .k = p.steps, .count = p.columns, .panel = panel});
        // alpha joins here and not where a tile is written: there the compiler would be free to fuse the
        // product into the sum in one tile and not in another.
        if (g.alpha != T(1))
            for (int64_t i = 0; i < kernels_.tile_columns * p.steps; ++i) panel[i] *= g.alpha;
        round(panel, kernels_.tile_columns, p.steps);
    }

    void pack_a(const Gemm<T>& g, const PartOfA& p, T* a) const {
        // A stored as [k,m] is taken a few steps at a time: neighbouring panels share its cache lines.
        const int64_t at_once = g.transpose_a ? 32 : p.steps;
        for (int64_t l = 0; l < p.steps; l += at_once)
            for (int64_t i = 0; i < p.rows; i += kernels_.tile_rows)
                pack_a_panel(g,
                             {p.row + i, std::min(kernels_.tile_rows, p.rows - i), p.step + l,
                              std::min(at_once, p.steps - l)},
                             a + i * p.steps + l * kernels_.tile_rows);
        for (int64_t i = 0; i < p.rows; i += kernels_.tile_rows)
            round(a + i * p.steps, kernels_.tile_rows, p.steps);
    }

    void tile(const Gemm<T>& g, const TileCall<T, T>& t) const {
        const PartOfA& p = t.part;
        Tile<T> tile{.rows = p.rows,
                     .columns = t.columns,
                     .k = p.steps,
                     .a = t.a + t.row_of_block * p.steps,
                     .a_step = kernels_.tile_rows,
                     .a_row = 1,
                     .b = t.b,
                     .b_step = kernels_.tile_columns,
                     .accumulate = t.accumulate,
                     .c = t.c,
                     .ldc = g.ldc};
        if (!t.a) {
            tile.a_step = g.transpose_a ? g.lda : 1;
            tile.a_row = g.transpose_a ? 1 : g.lda;
            tile.a = first_of(g, p);
        }
        kernels_.tile(tile);
    }

    static void enter() {}
    static void leave() {}

  private:
    void pack_a_panel(const Gemm<T>& g, const PartOfA& p, T* panel) const {
        (g.transpose_a ? kernels_.pack_a : kernels_.pack_a_transposed)(
            {.source = first_of(g, p), .ld = g.lda, .k = p.steps, .count = p.rows, .panel = panel});
    }

    void round(T* panel, int64_t width, int64_t steps) const {
        if constexpr (std::is_same_v<T, float>)
            if (rounded_) round_steps(panel, width, steps);
    }

    const GemmKernels<T>& kernels_;
    const bool rounded_;
};

}  // namespace
}  // namespace sieve::cpu
