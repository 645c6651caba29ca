// Matrices of one shape are worked on together, [count] of them with m = min(rows, cols):
//
//   momentum    a thread holds one pack: moves b, writes u; a block adds up the squares of its packs
//   normalise   X = u / (||u|| + 1e-7), in place                            X  [count, rows, cols]
//   five times  A = X X^T (or X^T X)              cuBLAS, batched           A  [count, m, m]
//               P = A A                           cuBLAS, batched           P  [count, m, m]
//               P = a I + b A + c P               elementwise
//               X' = P X (or X P)                 cuBLAS, batched           X' [count, rows, cols]
//   apply       p -= learning_rate sqrt(max(1, rows/cols)) X
//
// so 23 launches a shape. FLOPs: 5 (4 m^2 n + 2 m^3) a matrix, n the larger side: 1.2 GFLOP for 256 x 768.
// State: 4 bytes an element; momentum, norm and application move 36 bytes an element (float32).
// Deterministic: the order of all sums depends on the shapes alone, and so does what cuBLAS picks.
#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/blas/gemm.h"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"
#include "framework/optim/kernels.h"
#include "framework/optim/tensor_list.cuh"

namespace sieve::cuda {
namespace {

constexpr int iterations = 5;

// One matrix and its places in the group's scratch.
template <class T>
struct Entry {
    T* parameter;
    const T* grad;
    T* momentum_buffer;
    T* update;        // [count], u and then X
    double* squares;  // one for each chunk
    int64_t count;
};

// One pack a thread, so a chunk is list_threads packs. u is 0 when the guard forbids the step: then the
// products that follow stay finite.
template <int n, class T>
__global__ void __launch_bounds__(list_threads)
    momentum_kernel(const __grid_constant__ TensorList<Entry<T>> list, T rest, const double* guard) {
    __shared__ double scratch[warp_size];
    const int index = list.entry_of(blockIdx.x);
    const Entry<T>& entry = list.entries[index];
    const int64_t chunk = blockIdx.x - list.first_chunk[index];
    const bool allowed = allowed_by(guard);
    double squares = 0;
    const int64_t first = (chunk * list_threads + threadIdx.x) * n;
    if (first < entry.count) {
        const Pack<T, n> g = load_pack<n>(entry.grad + first);
        Pack<T, n> b = load_pack<n>(entry.momentum_buffer + first), u{};
        for (int e = 0; allowed && e < n; ++e) {
            b.at[e] += rest * (g.at[e] - b.at[e]);
            u.at[e] = b.at[e] - rest * (b.at[e] - g.at[e]);
            squares += static_cast<double>(u.at[e]) * static_cast<double>(u.at[e]);
        }
        store_pack(entry.momentum_buffer + first, b);
        store_pack(entry.update + first, u);
    }
    squares = block_reduce(squares, 0.0, Sum(), scratch);
    if (threadIdx.x == 0) entry.squares[chunk] = squares;
}

// Each block adds up all squares of its matrix, in the same order as the others.
template <int n, class T>
__global__ void __launch_bounds__(list_threads)
    normalise_kernel(const __grid_constant__ TensorList<Entry<T>> list) {
    __shared__ double scratch[warp_size];
    const int index = list.entry_of(blockIdx.x);
    const Entry<T>& entry = list.entries[index];
    const int64_t chunks = (entry.count + list_threads * n - 1) / (list_threads * n);
    double squares = 0;
    for (int64_t i = threadIdx.x; i < chunks; i += list_threads) squares += entry.squares[i];
    squares = block_reduce(squares, 0.0, Sum(), scratch);
    const T scale = static_cast<T>(1 / (sqrt(squares) + 1e-7));
    const int64_t chunk = blockIdx.x - list.first_chunk[index];
    const int64_t first = (chunk * list_threads + threadIdx.x) * n;
    if (first >= entry.count) return;
    Pack<T, n> x = load_pack<n>(entry.update + first);
    for (int e = 0; e < n; ++e) x.at[e] *= scale;
    store_pack(entry.update + first, x);
}

template <class T>
struct Apply {
    const double *learning_rate, *guard;
    double factor;  // sqrt(max(1, rows / cols))

    template <int n>
    __device__ void update(const Entry<T>& entry, int64_t i) const {
        if (!allowed_by(guard)) return;
        const T rate = static_cast<T>(*learning_rate * factor);
        const Pack<T, n> x = load_pack<n>(entry.update + i);
        Pack<T, n> p = load_pack<n>(entry.parameter + i);
        for (int e = 0; e < n; ++e) p.at[e] -= rate * x.at[e];
        store_pack(entry.parameter + i, p);
    }
};

// P = 3.4445 I - 4.7750 A + 2.0315 P for `count` matrices at once.
template <class T>
void polynomial(const T* a, T* p, int64_t count, int64_t m) {
    for_each_element(count * m * m, [a, p, m] __device__(int64_t i) {
        const T identity = i % (m * m) % (m + 1) == 0 ? T(1) : T(0);
        p[i] = T(3.4445) * identity + T(-4.7750) * a[i] + T(2.0315) * p[i];
    });
}

// The matrices of one shape.
template <class T>
class Group {
  public:
    Group(std::vector<MuonMatrix<T>> matrices)
        : matrices_(std::move(matrices)),
          rows_(matrices_[0].rows),
          cols_(matrices_[0].cols),
          m_(std::min(rows_, cols_)),
          count_(static_cast<int64_t>(matrices_.size())),
          x_(scratch(rows_, cols_)),
          next_x_(scratch(rows_, cols_)),
          gram_(scratch(m_, m_)),
          factor_(scratch(m_, m_)) {}

    void step(const MuonStep<T>& settings) {
        bool packs = rows_ * cols_ % full_pack<T> == 0;
        for (const MuonMatrix<T>& m : matrices_)
            packs = packs && start_packs(m.parameter, m.grad, m.momentum_buffer);
        packs ? normalised_update<full_pack<T>>(settings) : normalised_update<1>(settings);
        for (int i = 0; i < iterations; ++i) iterate();
        const double ratio = static_cast<double>(rows_) / static_cast<double>(cols_);
        update_all<T>(entries(nullptr, 0), packs,
                      Apply<T>{settings.learning_rate, settings.guard, std::sqrt(std::max(1.0, ratio))});
    }

  private:
    Tensor scratch(int64_t rows, int64_t cols) const {
        return Tensor::empty({count_, rows, cols}, dtype_of<T>, device);
    }

    // Each matrix with its X in x_ as it is now.
    std::vector<Entry<T>> entries(double* squares, int64_t chunks) const {
        std::vector<Entry<T>> all;
        const int64_t size = rows_ * cols_;
        for (const MuonMatrix<T>& m : matrices_) {
            const auto i = static_cast<int64_t>(all.size());
            all.push_back({.parameter = m.parameter,
                           .grad = m.grad,
                           .momentum_buffer = m.momentum_buffer,
                           .update = x_.data<T>() + i * size,
                           .squares = squares + i * chunks,
                           .count = size});
        }
        return all;
    }

    template <int n>
    void normalised_update(const MuonStep<T>& settings) {
        constexpr int64_t chunk = list_threads * n;
        const int64_t chunks = (rows_ * cols_ + chunk - 1) / chunk;
        const Tensor squares = Tensor::empty({count_, chunks}, DType::float64, device);
        const T rest = 1 - static_cast<T>(settings.momentum);
        for_each_list(entries(squares.data<double>(), chunks), chunk, [&](const auto& list, unsigned) {
            const Grid grid{.blocks = dim3(list.chunks), .threads = dim3(list_threads)};
            launch_kernel(momentum_kernel<n, T>, grid, list, rest, settings.guard);
            launch_kernel(normalise_kernel<n, T>, grid, list);
        });
    }

    void iterate() {
        const bool tall = rows_ > cols_;
        T* const x = x_.data<T>();
        T* const a = gram_.data<T>();
        T* const p = factor_.data<T>();
        const int64_t size = rows_ * cols_, square = m_ * m_;
        gemm_batched<T>({.transpose_a = tall,
                         .transpose_b = !tall,
                         .m = m_,
                         .n = m_,
                         .k = std::max(rows_, cols_),
                         .a = x,
                         .lda = cols_,
                         .b = x,
                         .ldb = cols_,
                         .c = a,
                         .ldc = m_},
                        {count_, size, size, square});
        gemm_batched<T>({.m = m_, .n = m_, .k = m_, .a = a, .lda = m_, .b = a, .ldb = m_, .c = p, .ldc = m_},
                        {count_, square, square, square});
        polynomial(a, p, count_, m_);
        gemm_batched<T>({.m = rows_,
                         .n = cols_,
                         .k = m_,
                         .a = tall ? x : p,
                         .lda = m_,
                         .b = tall ? p : x,
                         .ldb = cols_,
                         .c = next_x_.data<T>(),
                         .ldc = cols_},
                        {count_, tall ? size : square, tall ? square : size, size});
        std::swap(x_, next_x_);
    }

    const std::vector<MuonMatrix<T>> matrices_;
    const int64_t rows_, cols_, m_, count_;
    Tensor x_, next_x_, gram_, factor_;
};

}  // namespace

template <class T>
void muon_step(const MuonStep<T>& a) {
    std::vector<MuonMatrix<T>> left(a.matrices, a.matrices + a.count);
    while (!left.empty()) {
        const int64_t rows = left[0].rows, cols = left[0].cols;
        const auto others = std::stable_partition(left.begin(), left.end(), [&](const MuonMatrix<T>& m) {
            return m.rows == rows && m.cols == cols;
        });
        Group<T>({left.begin(), others}).step(a);
        left.erase(left.begin(), others);
    }
}

template void muon_step(const MuonStep<float>&);
template void muon_step(const MuonStep<double>&);

}  // namespace sieve::cuda
