// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, in this order:
//
//   for each part of B that fits the buffer (all of it, as a rule):
//       the threads pack it together, into panels of tile_columns columns
//       each thread takes blocks of rows of A from a common counter, and for each k_block of k:
//           packs the rows, unless few panels of B meet them, into panels of tile_rows rows (kept in L2)
//           for each panel of B (L1), for each panel of A: adds one tile of C, in registers
//
// Nothing of this reaches the bits of C: an element is one chain over k inside a k_block (kernels_inl.h), and
// the k_blocks, whose places are fixed, are added to C in order.
#include "framework/blas/gemm.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "framework/blas/kernels.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"

namespace sieve::cpu {
namespace {

constexpr int64_t k_block = 512;
constexpr int64_t row_block = 96;
constexpr int64_t buffer_elements = int64_t{1} << 21;  // of packed B
// A is read where it lies, unpacked, when few panels of B meet it. Stored as [k,m] with long rows, each step
// of k is another memory page: then it is packed.
constexpr int64_t direct_panels = 16;
constexpr int64_t direct_lda = 1024;
constexpr int64_t products_worth_a_thread = 1 << 18;

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

// Scratch that a thread keeps from call to call; it only grows.
template <class T>
T* scratch(int which, int64_t elements) {
    struct Free {
        void operator()(T* p) const { ::operator delete (p, std::align_val_t{64}); }
    };
    thread_local std::unique_ptr<T, Free> buffers[2];
    thread_local int64_t sizes[2] = {0, 0};
    if (sizes[which] < elements) {
        buffers[which].reset();
        sizes[which] = 0;
        buffers[which].reset(static_cast<T*>(
            ::operator new (static_cast<size_t>(elements) * sizeof(T), std::align_val_t{64})));
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
// time.
struct Part {
    int64_t column, columns, step, steps;
};

template <class T>
class Product {
  public:
    Product(const GemmKernels<T>& kernels, const Gemm<T>& g, Part part, bool lower_only)
        : g_(g), part_(part), lower_only_(lower_only), kernels_(kernels) {
        const int64_t most = g.m * part.columns * part.steps / products_worth_a_thread;
        threads_ = omp_in_parallel() ? 1 : static_cast<int>(std::clamp<int64_t>(most, 1, thread_count()));
        panels_ = ceil_div(part.columns, kernels_.tile_columns);
        // As many blocks for each thread; a short C is cut along its columns, too.
        row_blocks_ = std::min(round_up(ceil_div(g.m, row_block), threads_), ceil_div(g.m, 8));
        rows_each_ = ceil_div(g.m, row_blocks_);
        panels_each_ = ceil_div(panels_, std::min<int64_t>(panels_, ceil_div(threads_, row_blocks_)));
        direct_a_ = panels_each_ <= direct_panels && (!g.transpose_a || g.lda <= direct_lda);
        a_elements_ = round_up(rows_each_, kernels_.tile_rows) * std::min(k_block, part.steps) + 64;
        a_ = scratch<T>(0, a_elements_ * threads_);
        b_ = scratch<T>(1, panels_ * kernels_.tile_columns * part.steps + 64);
    }

    void run() {
        if (threads_ == 1) {
            pack_b(0, panels_);
            for (int64_t i = 0; i < blocks(); ++i) block(i, a_);
            return;
        }
#pragma omp parallel num_threads(threads_)
        {
            const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
            pack_b(panels_ * thread / team, panels_ * (thread + 1) / team);
#pragma omp barrier
            // From the bottom up: the blocks of a lower triangle come longest first.
            for (int64_t i = next_++; i < blocks(); i = next_++)
                block(blocks() - 1 - i, a_ + thread * a_elements_);
        }
    }

  private:
    int64_t blocks() const {
        return ceil_div(g_.m, rows_each_) * ceil_div(panels_, panels_each_);
    }

    const T* b_panel(int64_t panel, int64_t step) const {
        return b_ + panel * kernels_.tile_columns * part_.steps + step * kernels_.tile_columns;
    }

    void pack_b(int64_t begin, int64_t end) const {
        for (int64_t p = begin; p < end; ++p) {
            const int64_t column = p * kernels_.tile_columns, j = part_.column + column;
            const T* source =
                g_.transpose_b ? g_.b + j * g_.ldb + part_.step : g_.b + part_.step * g_.ldb + j;
            T* panel = b_ + p * kernels_.tile_columns * part_.steps;
            (g_.transpose_b ? kernels_.pack_b_transposed : kernels_.pack_b)(
                {.source = source,
                 .ld = g_.ldb,
                 .k = part_.steps,
                 .count = std::min(kernels_.tile_columns, part_.columns - column),
                 .panel = panel});
            // alpha joins here and not where a tile is written: there the compiler would be free to fuse the
            // product into the sum in one tile and not in another.
            if (g_.alpha != T(1))
                for (int64_t i = 0; i < kernels_.tile_columns * part_.steps; ++i) panel[i] *= g_.alpha;
        }
    }

    void pack_a(int64_t row, int64_t rows, int64_t step, int64_t steps, T* a) const {
        // A stored as [k,m] is taken a few steps at a time: neighbouring panels share its cache lines.
        const int64_t at_once = g_.transpose_a ? 32 : steps;
        for (int64_t l = 0; l < steps; l += at_once)
            for (int64_t i = 0; i < rows; i += kernels_.tile_rows)
                pack_a_panel(row + i, std::min(kernels_.tile_rows, rows - i), step + l,
                             std::min(at_once, steps - l), a + i * steps + l * kernels_.tile_rows);
    }

    void pack_a_panel(int64_t row, int64_t rows, int64_t step, int64_t steps, T* panel) const {
        const T* source = g_.transpose_a ? g_.a + step * g_.lda + row : g_.a + row * g_.lda + step;
        (g_.transpose_a ? kernels_.pack_a : kernels_.pack_a_transposed)(
            {.source = source, .ld = g_.lda, .k = steps, .count = rows, .panel = panel});
    }

    void block(int64_t index, T* a) const {
        const int64_t column_groups = ceil_div(panels_, panels_each_);
        const int64_t row = index / column_groups * rows_each_, rows = std::min(rows_each_, g_.m - row);
        const int64_t panel = index % column_groups * panels_each_;
        const int64_t column = panel * kernels_.tile_columns;
        const int64_t columns = std::min(part_.columns - column, panels_each_ * kernels_.tile_columns);
        if (part_.step == 0 && g_.beta != T(0) && g_.beta != T(1))
            scale_c(g_, row, rows, part_.column + column, columns);
        for (int64_t step = 0; step < part_.steps; step += k_block) {
            const int64_t steps = std::min(k_block, part_.steps - step);
            if (!direct_a_) pack_a(row, rows, part_.step + step, steps, a);
            for (int64_t p = panel; p < std::min(panels_, panel + panels_each_); ++p)
                tiles(row, rows, step, steps, p, a);
        }
    }

    void tiles(int64_t row, int64_t rows, int64_t step, int64_t steps, int64_t p, const T* a) const {
        const int64_t column = p * kernels_.tile_columns;
        // The first panel of rows that reaches down to the diagonal.
        const int64_t above = part_.column + column - row;
        const int64_t first = lower_only_ && above > 0 ? above / kernels_.tile_rows * kernels_.tile_rows : 0;
        const int64_t a_step = direct_a_ ? (g_.transpose_a ? g_.lda : 1) : kernels_.tile_rows;
        const int64_t a_row = direct_a_ && !g_.transpose_a ? g_.lda : 1;
        for (int64_t i = first; i < rows; i += kernels_.tile_rows)
            kernels_.tile(
                {.rows = std::min(kernels_.tile_rows, rows - i),
                 .columns = std::min(kernels_.tile_columns, part_.columns - column),
                 .k = steps,
                 .a = direct_a_ ? g_.a + (part_.step + step) * a_step + (row + i) * a_row : a + i * steps,
                 .a_step = a_step,
                 .a_row = a_row,
                 .b = b_panel(p, step),
                 .b_step = kernels_.tile_columns,
                 .accumulate = part_.step + step > 0 || g_.beta != T(0),
                 .c = g_.c + (row + i) * g_.ldc + part_.column + column,
                 .ldc = g_.ldc});
    }

    const Gemm<T>& g_;
    const Part part_;
    const bool lower_only_;  // tiles wholly above the diagonal of C are left out
    const GemmKernels<T>& kernels_;
    bool direct_a_;
    int threads_;
    int64_t panels_, row_blocks_, rows_each_, panels_each_, a_elements_;
    T *a_, *b_;
    std::atomic<int64_t> next_{0};
};

// Calls f(part) for the parts of B, one after the other.
template <class T, class F>
void for_each_part(const GemmKernels<T>& kernels, const Gemm<T>& g, const F& f) {
    const int64_t steps_each = std::min(g.k, 16 * k_block);
    for (int64_t step = 0; step < g.k; step += steps_each) {
        const int64_t steps = std::min(steps_each, g.k - step);
        const int64_t columns_each = round_up(buffer_elements / steps, kernels.tile_columns);
        for (int64_t column = 0; column < g.n; column += columns_each)
            f(Part{column, std::min(columns_each, g.n - column), step, steps});
    }
}

template <class T>
void multiply(const GemmKernels<T>& kernels, const Gemm<T>& g, bool lower_only) {
    if (g.m == 0 || g.n == 0) return;
    if (g.k == 0) scale_c(g, 0, g.m, 0, g.n);
    for_each_part(kernels, g, [&](const Part& part) { Product<T>(kernels, g, part, lower_only).run(); });
}

template <class T>
const GemmKernels<T>& best_kernels() {
    static const GemmKernels<T>& best = *supported_gemm_kernels<T>().front();
    return best;
}

// Rows [i, i + rows) of the lower triangle become columns [i, i + rows) of the upper one.
template <class T>
void mirror_rows(const GemmKernels<T>& kernels, T* c, int64_t ldc, int64_t i, int64_t rows) {
    const int64_t width = kernels.tile_columns, end = i + rows;
    T* panel = scratch<T>(0, end * width + 64);
    kernels.pack_b_transposed({.source = c + i * ldc, .ld = ldc, .k = end, .count = rows, .panel = panel});
    for (int64_t j = 0; j < end; ++j) {
        const int64_t first = std::max<int64_t>(0, j + 1 - i);
        std::copy(panel + j * width + first, panel + j * width + rows, c + j * ldc + i + first);
    }
}

template <class T>
void mirror_lower(const GemmKernels<T>& kernels, T* c, int64_t n, int64_t ldc) {
    const int64_t width = kernels.tile_columns, tasks = ceil_div(n, width);
    // From the bottom up: the longest first.
    const auto task = [&](int64_t t) {
        const int64_t i = (tasks - 1 - t) * width;
        mirror_rows(kernels, c, ldc, i, std::min(width, n - i));
    };
    if (n >= 256) return parallel_tasks(tasks, task);
    for (int64_t t = 0; t < tasks; ++t) task(t);
}

}  // namespace

template <class T>
std::vector<const GemmKernels<T>*> supported_gemm_kernels() {
    std::vector<const GemmKernels<T>*> sets;
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v4")) sets.push_back(&gemm_kernels_avx512<T>());
    if (__builtin_cpu_supports("x86-64-v3")) sets.push_back(&gemm_kernels_avx2<T>());
#endif
    sets.push_back(&gemm_kernels_baseline<T>());
    return sets;
}

template <class T>
void gemm_with(const GemmKernels<T>& kernels, const Gemm<T>& g) {
    multiply(kernels, g, false);
}

template <class T>
void gemm(const Gemm<T>& g) {
    multiply(best_kernels<T>(), g, false);
}

template <class T>
void reserve_gemm(const Gemm<T>& g) {
    if (g.m == 0 || g.n == 0) return;
    const GemmKernels<T>& kernels = best_kernels<T>();
    for_each_part(kernels, g, [&](const Part& part) { Product<T>(kernels, g, part, false); });
}

template <class T>
void gemm_symmetric(const Gemm<T>& g) {
    if (g.m != g.n)
        fail("gemm_symmetric: C is [" + std::to_string(g.m) + "," + std::to_string(g.n) + "], want a square");
    multiply(best_kernels<T>(), g, true);
    mirror_lower(best_kernels<T>(), g.c, g.n, g.ldc);
}

template <class T>
void gemm_batched(const Gemm<T>& g, const GemmBatch& batch) {
    const auto one = [&](int64_t i) {
        Gemm<T> product = g;
        product.a += i * batch.stride_a;
        product.b += i * batch.stride_b;
        product.c += i * batch.stride_c;
        gemm(product);
    };
    if (batch.count >= thread_count()) return parallel_tasks(batch.count, one);
    for (int64_t i = 0; i < batch.count; ++i) one(i);
}

std::string gemm_backend() {
    const GemmKernels<float>& k = best_kernels<float>();
    return std::string("own kernels, ") + k.name + ", " + std::to_string(k.tile_rows) + "x" +
           std::to_string(k.tile_columns) + " tiles";
}

#define SIEVE_INSTANTIATE(T)                                                 \
    template std::vector<const GemmKernels<T>*> supported_gemm_kernels<T>(); \
    template void gemm_with(const GemmKernels<T>&, const Gemm<T>&);          \
    template void gemm(const Gemm<T>&);                                      \
    template void reserve_gemm(const Gemm<T>&);                              \
    template void gemm_symmetric(const Gemm<T>&);                            \
    template void gemm_batched(const Gemm<T>&, const GemmBatch&);
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
#undef SIEVE_INSTANTIATE

}  // namespace sieve::cpu
