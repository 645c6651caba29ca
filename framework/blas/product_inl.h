// The order in which a product is computed, whatever its kernels (Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008):
//
//   for each part of B that fits the buffer (all of it, as a rule):
//       the threads pack it together, into panels of tile_columns columns
//       each thread takes blocks of rows of A from a common counter, and for each k_block of k:
//           packs the rows, unless the kernels read them where they lie
//           for each panel of B (L1), for each tile_rows rows of A: adds one tile of C, in registers
//
// Nothing of this reaches the bits of C: an element is one sum over k inside a k_block, in an order that the
// kernels fix, and the k_blocks, whose places are fixed, are added to C in order.
//
// `Operands` is how A and B are packed and multiplied (float_operands.h, pair_operands.h); it has
//
//   Element, Word                  of the matrices, and of packed memory
//   tile_rows(), tile_columns()
//   words(steps)                   packed words of one row or column of so many steps of k
//   reads_a(g, panels)             A is read where it lies, where so many panels of B meet it
//   a_elements(rows, steps)        words of packed A
//   pack_b(g, PartOfB, panel), pack_a(g, PartOfA, a)
//   tile(g, TileCall)
//   enter(), leave()               on each thread, around its tiles
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>

#include "framework/blas/gemm.h"
#include "framework/blas/packed_parts.h"
#include "framework/core/threads.h"

namespace sieve::cpu {
namespace {

constexpr int64_t k_block = 512;
constexpr int64_t row_block = 96;
constexpr int64_t buffer_elements = int64_t{1} << 21;  // of packed B
constexpr int64_t products_worth_a_thread = 1 << 18;
// An element of B takes as long to read, or to pack, as so many products with it.
constexpr int64_t products_of_an_element = 8;

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Scratch that a thread keeps from call to call; it only grows.
template <class Word>
Word* scratch(int which, int64_t elements) {
    struct Free {
        void operator()(Word* p) const { ::operator delete (p, std::align_val_t{64}); }
    };
    thread_local std::unique_ptr<Word, Free> buffers[2];
    thread_local int64_t sizes[2] = {0, 0};
    if (sizes[which] < elements) {
        buffers[which].reset();
        sizes[which] = 0;
        buffers[which].reset(static_cast<Word*>(
            ::operator new (static_cast<size_t>(elements) * sizeof(Word), std::align_val_t{64})));
        sizes[which] = elements;
    }
    return buffers[which].get();
}

template <class T>
void scale_c(const Gemm<T>& g, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    for (int64_t i = row; i < row + rows; ++i) {
        T* c = g.c + i * g.ldc + column;
        if (g.beta == T(0))
            std::fill(c, c + columns, T(0));
        else
            for (int64_t j = 0; j < columns; ++j) c[j] *= g.beta;
    }
}

// Columns [column, column + columns) of B, steps [step, step + steps) of k: what the buffer holds at one
// time; or one panel of it.
struct PartOfB {
    int64_t column, columns, step, steps;
};
// Rows [row, row + rows) of A, steps [step, step + steps) of k.
struct PartOfA {
    int64_t row, rows, step, steps;
};

// The part's first element where it lies.
template <class T>
const T* first_of(const Gemm<T>& g, const PartOfA& p) {
    return g.a + (g.transpose_a ? p.step * g.lda + p.row : p.row * g.lda + p.step);
}
template <class T>
const T* first_of(const Gemm<T>& g, const PartOfB& p) {
    return g.b + (g.transpose_b ? p.column * g.ldb + p.step : p.step * g.ldb + p.column);
}

// A tile of C: A's rows times B's columns over `steps` of k.
template <class T, class Word>
struct TileCall {
    PartOfA part;
    int64_t columns;
    const Word* a;         // the block's packed rows, or null where A is read where it lies
    int64_t row_of_block;  // the tile's first row within them
    const Word* b;         // the panel, at part.step
    bool accumulate;
    T* c;
};

// Packed words of one panel of B.
template <class Operands>
int64_t words_of_panel(const Operands& operands, const PartOfB& part) {
    return operands.tile_columns() * operands.words(part.steps);
}

// Panels [begin, end) of a part of B, packed into theirs of `b`.
template <class Operands, class T>
void pack_panels(const Operands& operands, const Gemm<T>& g, const PartOfB& part, int64_t begin, int64_t end,
                 typename Operands::Word* b) {
    for (int64_t p = begin; p < end; ++p) {
        const int64_t column = p * operands.tile_columns();
        const int64_t columns = std::min(operands.tile_columns(), part.columns - column);
        operands.pack_b(g, {part.column + column, columns, part.step, part.steps},
                        b + p * words_of_panel(operands, part));
    }
}

template <class Operands>
class Product {
  public:
    using T = typename Operands::Element;
    using Word = typename Operands::Word;

    // `packed`: the part's panels, where somebody keeps them.
    Product(const Operands& operands, const Gemm<T>& g, PartOfB part, bool lower_only,
            const Word* packed = nullptr)
        : g_(g), part_(part), lower_only_(lower_only), operands_(operands), b_(packed) {
        const int64_t most =
            (g.m + products_of_an_element) * part.columns * part.steps / products_worth_a_thread;
        threads_ = omp_in_parallel() ? 1 : static_cast<int>(std::clamp<int64_t>(most, 1, thread_count()));
        panels_ = ceil_div(part.columns, operands_.tile_columns());
        // As many blocks for each thread; a short C is cut along its columns, too.
        row_blocks_ = std::min(ceil_div(ceil_div(g.m, row_block), threads_) * threads_, ceil_div(g.m, 8));
        rows_each_ = ceil_div(g.m, row_blocks_);
        panels_each_ = ceil_div(panels_, std::min<int64_t>(panels_, ceil_div(threads_, row_blocks_)));
        reads_a_ = operands_.reads_a(g, panels_each_);
        a_elements_ = operands_.a_elements(rows_each_, std::min(k_block, part.steps)) + 64;
        a_ = scratch<Word>(0, a_elements_ * threads_);
        if (packed) return;
        to_pack_ = scratch<Word>(1, panels_ * words_of_panel(operands_, part_) + 64);
        b_ = to_pack_;
    }

    void run() {
        if (threads_ == 1) {
            if (to_pack_) pack_panels(operands_, g_, part_, 0, panels_, to_pack_);
            operands_.enter();
            for (int64_t i = 0; i < blocks(); ++i) block(i, a_);
            operands_.leave();
            return;
        }
#pragma omp parallel num_threads(threads_)
        {
            const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
            if (to_pack_) {
                pack_panels(operands_, g_, part_, panels_ * thread / team, panels_ * (thread + 1) / team,
                            to_pack_);
#pragma omp barrier
            }
            operands_.enter();
            // From the bottom up: the blocks of a lower triangle come longest first.
            for (int64_t i = next_++; i < blocks(); i = next_++)
                block(blocks() - 1 - i, a_ + thread * a_elements_);
            operands_.leave();
        }
    }

  private:
    int64_t blocks() const {
        return ceil_div(g_.m, rows_each_) * ceil_div(panels_, panels_each_);
    }

    const Word* b_panel(int64_t panel, int64_t step) const {
        return b_ + panel * words_of_panel(operands_, part_) +
               operands_.words(step) * operands_.tile_columns();
    }

    void block(int64_t index, Word* a) const {
        const int64_t column_groups = ceil_div(panels_, panels_each_);
        const int64_t row = index / column_groups * rows_each_, rows = std::min(rows_each_, g_.m - row);
        const int64_t panel = index % column_groups * panels_each_;
        const int64_t column = panel * operands_.tile_columns();
        const int64_t columns = std::min(part_.columns - column, panels_each_ * operands_.tile_columns());
        if (part_.step == 0 && g_.beta != T(0) && g_.beta != T(1))
            scale_c(g_, row, rows, part_.column + column, columns);
        for (int64_t step = 0; step < part_.steps; step += k_block) {
            const PartOfA of_a{row, rows, part_.step + step, std::min(k_block, part_.steps - step)};
            if (!reads_a_) operands_.pack_a(g_, of_a, a);
            for (int64_t p = panel; p < std::min(panels_, panel + panels_each_); ++p)
                tiles(of_a, p, reads_a_ ? nullptr : a);
        }
    }

    void tiles(const PartOfA& of_a, int64_t p, const Word* a) const {
        const int64_t column = p * operands_.tile_columns(), tile_rows = operands_.tile_rows();
        // The first panel of rows that reaches down to the diagonal.
        const int64_t above = part_.column + column - of_a.row;
        const int64_t first = lower_only_ && above > 0 ? above / tile_rows * tile_rows : 0;
        for (int64_t i = first; i < of_a.rows; i += tile_rows)
            operands_.tile(g_,
                           {.part = {of_a.row + i, std::min(tile_rows, of_a.rows - i), of_a.step, of_a.steps},
                            .columns = std::min(operands_.tile_columns(), part_.columns - column),
                            .a = a,
                            .row_of_block = i,
                            .b = b_panel(p, of_a.step - part_.step),
                            .accumulate = of_a.step > 0 || g_.beta != T(0),
                            .c = g_.c + (of_a.row + i) * g_.ldc + part_.column + column});
    }

    const Gemm<T>& g_;
    const PartOfB part_;
    const bool lower_only_;  // tiles wholly above the diagonal of C are left out
    const Operands& operands_;
    bool reads_a_;
    int threads_;
    int64_t panels_, row_blocks_, rows_each_, panels_each_, a_elements_;
    Word* a_;
    const Word* b_;
    Word* to_pack_ = nullptr;
    std::atomic<int64_t> next_{0};
};

// Calls f(part) for the parts of B, one after the other.
template <class Operands, class T, class F>
void for_each_part(const Operands& operands, const Gemm<T>& g, const F& f) {
    const int64_t steps_each = std::min(g.k, 16 * k_block);
    for (int64_t step = 0; step < g.k; step += steps_each) {
        const int64_t steps = std::min(steps_each, g.k - step);
        const int64_t columns_each =
            ceil_div(buffer_elements / steps, operands.tile_columns()) * operands.tile_columns();
        for (int64_t column = 0; column < g.n; column += columns_each)
            f(PartOfB{column, std::min(columns_each, g.n - column), step, steps});
    }
}

// What the product will need on this thread.
template <class Operands, class T>
void reserve(const Operands& operands, const Gemm<T>& g) {
    if (g.m == 0 || g.n == 0) return;
    for_each_part(operands, g, [&](const PartOfB& part) { Product<Operands>(operands, g, part, false); });
}

template <class Operands, class T>
void multiply(const Operands& operands, const Gemm<T>& g, bool lower_only,
              const PackedParts* packed = nullptr) {
    if (g.m == 0 || g.n == 0) return;
    if (g.k == 0) scale_c(g, 0, g.m, 0, g.n);
    size_t next = 0;
    for_each_part(operands, g, [&](const PartOfB& part) {
        const void* b = packed ? packed->at(next++).get() : nullptr;
        Product<Operands>(operands, g, part, lower_only, static_cast<const typename Operands::Word*>(b))
            .run();
    });
}

template <class Operands>
PackedParts pack_with(const Operands& operands, const Gemm<float>& g) {
    static_assert(sizeof(typename Operands::Word) == 4);
    PackedParts parts;
    for_each_part(operands, g, [&](const PartOfB& part) {
        const int64_t panels = ceil_div(part.columns, operands.tile_columns());
        // Behind the last panel the kernels may write and read one vector more.
        const auto words = static_cast<size_t>(panels * words_of_panel(operands, part) + 64);
        parts.emplace_back(static_cast<uint32_t*>(::operator new (4 * words, std::align_val_t{64})));
        const auto b = static_cast<typename Operands::Word*>(static_cast<void*>(parts.back().get()));
        parallel_for(panels, 1,
                     [&](int64_t begin, int64_t end) { pack_panels(operands, g, part, begin, end, b); });
    });
    return parts;
}

}  // namespace
}  // namespace sieve::cpu
