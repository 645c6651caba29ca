#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/blas/gemm.h"
#include "framework/core/precision.h"
#include "framework/core/simd.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/optim/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int iterations = 5;
constexpr double coefficients[3] = {3.4445, -4.7750, 2.0315};  // of X, A X, A A X
// Rows of a symmetric product computed at a time: from their own diagonal block to the right.
constexpr int64_t panel = 64;
constexpr int64_t sum_block = 1 << 10;

template <class T>
SIEVE_INLINE T update_block(const MuonMatrix<T>& a, T momentum, T* __restrict update, int64_t begin,
                            int64_t end) {
    const T* __restrict g = a.grad;
    T* __restrict b = a.momentum_buffer;
    const T rest = 1 - momentum;
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = begin; i < end; ++i) {
        b[i] += rest * (g[i] - b[i]);
        update[i] = b[i] - rest * (b[i] - g[i]);
        squares += update[i] * update[i];
    }
    return squares;
}

// Moves the momentum, writes the Nesterov update and returns the sum of its squares.
template <class T>
SIEVE_INLINE double update_of(const MuonMatrix<T>& a, T momentum, T* update) {
    const int64_t n = a.rows * a.cols;
    double squares = 0;
    for (int64_t i = 0; i < n; i += sum_block)
        squares += static_cast<double>(update_block(a, momentum, update, i, std::min(n, i + sum_block)));
    return squares;
}

// Fills what lies below the panels of C [m,m], tile by tile so that both sides stay in cache lines that are
// in use.
template <class T>
SIEVE_INLINE void mirror_panels(T* c, int64_t m) {
    constexpr int64_t tile = 16;
    for (int64_t i0 = 0; i0 < m; i0 += tile) {
        const int64_t i1 = std::min(m, i0 + tile);
        for (int64_t j0 = i0 / panel * panel + panel; j0 < m; j0 += tile) {
            const int64_t j1 = std::min(m, j0 + tile);
            for (int64_t j = j0; j < j1; ++j)
                for (int64_t i = i0; i < i1; ++i) c[j * m + i] = c[i * m + j];
        }
    }
}

// On the panels: C = a I + b A + c C, where C holds A A.
template <class T>
SIEVE_INLINE void polynomial_panels(const T* __restrict a, T* __restrict c, int64_t m) {
    const T c0 = static_cast<T>(coefficients[0]), c1 = static_cast<T>(coefficients[1]);
    const T c2 = static_cast<T>(coefficients[2]);
    for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = i / panel * panel; j < m; ++j) c[i * m + j] = c1 * a[i * m + j] + c2 * c[i * m + j];
        c[i * m + i] += c0;
    }
}

SIEVE_CLONES double update_into(const MuonMatrix<float>& a, float momentum, float* u) {
    return update_of(a, momentum, u);
}
SIEVE_CLONES double update_into(const MuonMatrix<double>& a, double momentum, double* u) {
    return update_of(a, momentum, u);
}
SIEVE_CLONES void mirror(float* c, int64_t m) {
    mirror_panels(c, m);
}
SIEVE_CLONES void mirror(double* c, int64_t m) {
    mirror_panels(c, m);
}
SIEVE_CLONES void polynomial(const float* a, float* c, int64_t m) {
    polynomial_panels(a, c, m);
}
SIEVE_CLONES void polynomial(const double* a, double* c, int64_t m) {
    polynomial_panels(a, c, m);
}

// The panels of C = A B for symmetric A and B that commute, so that C is symmetric, too. A is read by
// columns, which are its rows: gemm packs that order without transposing.
template <class T>
void symmetric_product(const T* a, const T* b, T* c, int64_t m) {
    for (int64_t i = 0; i < m; i += panel)
        gemm<T>({.transpose_a = true,
                 .m = std::min(panel, m - i),
                 .n = m - i,
                 .k = m,
                 .a = a + i,
                 .lda = m,
                 .b = b + i,
                 .ldb = m,
                 .c = c + i * m + i,
                 .ldc = m});
}

// Works on one matrix: X [rows,cols] and symmetric [m,m] matrices, m = min(rows, cols).
template <class T>
class NewtonSchulz {
  public:
    static int64_t scratch_elements(const MuonMatrix<T>& matrix) {
        const int64_t m = std::min(matrix.rows, matrix.cols);
        return 2 * matrix.rows * matrix.cols + 4 * m * m;
    }
    // Takes what the products of run() will need on this thread.
    static void reserve(const MuonMatrix<T>& matrix) {
        const int64_t rows = matrix.rows, cols = matrix.cols, m = std::min(rows, cols);
        const bool tall = rows > cols;
        reserve_gemm<T>({.transpose_a = tall,
                         .transpose_b = !tall,
                         .m = std::min(panel, m),
                         .n = m,
                         .k = std::max(rows, cols),
                         .lda = cols,
                         .ldb = cols});
        reserve_gemm<T>({.transpose_a = true, .m = std::min(panel, m), .n = m, .k = m, .lda = m, .ldb = m});
        reserve_gemm<T>({.m = rows, .n = cols, .k = m, .lda = m, .ldb = cols});
    }
    NewtonSchulz(const MuonMatrix<T>& matrix, T* scratch)
        : matrix_(matrix),
          tall_(matrix.rows > matrix.cols),
          m_(std::min(matrix.rows, matrix.cols)),
          size_(matrix.rows * matrix.cols) {
        x_ = scratch;
        next_x_ = x_ + size_;
        a_ = next_x_ + size_;
        p_ = a_ + m_ * m_;
        q_ = p_ + m_ * m_;
        spare_ = q_ + m_ * m_;
    }

    void run(double momentum, double learning_rate) {
        const auto norm = static_cast<T>(std::sqrt(update_into(matrix_, static_cast<T>(momentum), x_)));
        T scale = T(1) / (norm + static_cast<T>(1e-7));
        const int most = iterations_on_a();
        for (int left = iterations; left > 0;) {
            const int steps = std::min(most, left);
            left -= steps;
            gram(scale * scale);
            factor(steps);
            if (left > 0) {
                apply(scale, T(0), next_x_);
                std::swap(x_, next_x_);
                scale = 1;
            } else {
                const double ratio = static_cast<double>(matrix_.rows) / static_cast<double>(matrix_.cols);
                apply(static_cast<T>(-learning_rate * std::sqrt(std::max(1.0, ratio))) * scale, T(1),
                      matrix_.parameter);
            }
        }
    }

  private:
    // Iterations on A between two products with X (muon.h).
    int iterations_on_a() const {
        if (matrix_.rows == matrix_.cols) return 1;
        return std::is_same_v<T, float> && precision() == Precision::bf16 ? 2 : 3;
    }

    // A = alpha X X^T, or alpha X^T X
    void gram(T alpha) {
        const int64_t cols = matrix_.cols;
        for (int64_t i = 0; i < m_; i += panel)
            gemm<T>({.transpose_a = tall_,
                     .transpose_b = !tall_,
                     .m = std::min(panel, m_ - i),
                     .n = m_ - i,
                     .k = std::max(matrix_.rows, cols),
                     .alpha = alpha,
                     .a = x_ + (tall_ ? i : i * cols),
                     .lda = cols,
                     .b = x_ + (tall_ ? i : i * cols),
                     .ldb = cols,
                     .c = a_ + i * m_ + i,
                     .ldc = m_});
        mirror(a_, m_);
    }

    // Q = the product of the P of `steps` iterations, the first of which belongs to A.
    void factor(int steps) {
        for (int step = 0; step < steps; ++step) {
            T* p = step == 0 ? q_ : p_;
            symmetric_product(a_, a_, p, m_);
            polynomial(a_, p, m_);
            mirror(p, m_);
            if (step + 1 < steps) {  // A <- P A P
                multiply(p, a_, spare_);
                multiply(spare_, p, a_);
            }
            if (step > 0) {
                multiply(q_, p, spare_);
                std::swap(q_, spare_);
            }
        }
    }

    void multiply(const T* a, const T* b, T* c) const {
        symmetric_product(a, b, c, m_);
        mirror(c, m_);
    }

    // out = alpha Q X + beta out, or alpha X Q + beta out
    void apply(T alpha, T beta, T* out) {
        gemm<T>({.m = matrix_.rows,
                 .n = matrix_.cols,
                 .k = m_,
                 .alpha = alpha,
                 .a = tall_ ? x_ : q_,
                 .lda = m_,
                 .b = tall_ ? q_ : x_,
                 .ldb = matrix_.cols,
                 .beta = beta,
                 .c = out,
                 .ldc = matrix_.cols});
    }

    const MuonMatrix<T>& matrix_;
    const bool tall_;
    const int64_t m_, size_;
    T *x_, *next_x_, *a_, *p_, *q_, *spare_;
};

}  // namespace

template <class T>
Tensor muon_scratch(const std::vector<MuonMatrix<T>>& matrices) {
    int64_t most = 0;
    for (const MuonMatrix<T>& matrix : matrices)
        most = std::max(most, NewtonSchulz<T>::scratch_elements(matrix));
    const int64_t workers = omp_in_parallel() ? 1 : std::min<int64_t>(thread_count(), std::ssize(matrices));
    parallel_for(workers, 1, [&](int64_t, int64_t) {  // a part is a thread
        for (const MuonMatrix<T>& matrix : matrices) NewtonSchulz<T>::reserve(matrix);
    });
    constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));  // no two workers write to one cache line
    return Tensor::empty({workers, (most + line - 1) / line * line}, dtype_of<T>);
}

template <class T>
void muon_step(const MuonStep<T>& a) {
    if (a.guard && !std::isfinite(*a.guard)) return;
    parallel_tasks(a.count, [&](int64_t i) {
        const int64_t worker = a.workers == 1 ? 0 : omp_get_thread_num();
        NewtonSchulz<T>(a.matrices[i], a.scratch + worker * a.worker_elements)
            .run(a.momentum, *a.learning_rate);
    });
}

template Tensor muon_scratch(const std::vector<MuonMatrix<float>>&);
template Tensor muon_scratch(const std::vector<MuonMatrix<double>>&);
template void muon_step(const MuonStep<float>&);
template void muon_step(const MuonStep<double>&);

}  // namespace sieve::cpu
