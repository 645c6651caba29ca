// One block's tile of a matrix product, for kernels that cuBLAS cannot replace because only the device knows
// where the operands begin and end (experts' rows).
//
//   C[i,j] = sum_l A[i,l] B[j,l]         i, j in [0, 64), l in [0, depth)
//
// Two ways, both with 64 x 64 tiles whose operands pass through shared memory in steps of l, the next step
// being loaded into registers while the present one is multiplied:
//
//   ExactTile<T>    256 threads, each 4 x 4 elements; one multiply-add chain an element, l ascending
//   FragmentTile    128 threads = 4 warps, each 32 x 32 elements as 2 x 4 tensor-core fragments of 16 x 8;
//                   operands rounded to bfloat16 or tf32, float32 accumulation
//
// The bits of C[i,j] depend on row i of A, row j of B and depth alone, not on where the rows lie in the tile
// or on what the others hold: with routed tokens causality rests on this.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/mma.cuh"
#include "framework/core/precision.h"

namespace sieve::cuda {

constexpr int tile_rows = 64;  // and columns

// 64 rows of A or of B. Element (i, l) is data[i * stride + l], or data[l * stride + i] when `transposed`;
// rows at and beyond `rows` are zeros. Any other type with these two members can be an operand as well:
// `by_columns` says that neighbours along i, rather than l, are neighbours in memory.
template <class T, bool transposed>
struct TileOperand {
    static constexpr bool by_columns = transposed;

    const T* data;
    int64_t stride;
    int rows;

    __device__ T at(int row, int64_t l, int64_t depth) const {
        if (row >= rows || l >= depth) return T(0);
        return transposed ? data[l * stride + row] : data[row * stride + l];
    }
};

template <class T>
struct ExactTile {
    static constexpr int threads = 256, step = 16, per_thread = tile_rows * step / threads;
    static constexpr int pitch = tile_rows + 4;  // keeps rows of 4 aligned and spreads the banks

    struct Shared {
        T a[step][pitch], b[step][pitch];
    };

    T sum[4][4] = {};

    // Which (row, l) a thread loads: neighbours in memory go to neighbouring threads.
    template <bool transposed>
    __device__ static int row_of(int i) {
        const int at = threadIdx.x + i * threads;
        return transposed ? at % tile_rows : at / step;
    }
    template <bool transposed>
    __device__ static int l_of(int i) {
        const int at = threadIdx.x + i * threads;
        return transposed ? at / tile_rows : at % step;
    }

    template <class A, class B>
    __device__ void multiply(const A& a, const B& b, int64_t depth, Shared& s) {
        constexpr bool ta = A::by_columns, tb = B::by_columns;
        const int tile_row = threadIdx.x / 16 * 4, tile_column = threadIdx.x % 16 * 4;
        T next_a[per_thread], next_b[per_thread];
        const auto fetch = [&](int64_t l) {
            for (int i = 0; i < per_thread; ++i) {
                next_a[i] = a.at(row_of<ta>(i), l + l_of<ta>(i), depth);
                next_b[i] = b.at(row_of<tb>(i), l + l_of<tb>(i), depth);
            }
        };
        fetch(0);
        for (int64_t l = 0; l < depth; l += step) {
            for (int i = 0; i < per_thread; ++i) {
                s.a[l_of<ta>(i)][row_of<ta>(i)] = next_a[i];
                s.b[l_of<tb>(i)][row_of<tb>(i)] = next_b[i];
            }
            __syncthreads();
            if (l + step < depth) fetch(l + step);
#pragma unroll
            for (int k = 0; k < step; ++k) {
                T x[4], y[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    x[i] = s.a[k][tile_row + i];
                    y[i] = s.b[k][tile_column + i];
                }
#pragma unroll
                for (int i = 0; i < 4; ++i)
#pragma unroll
                    for (int j = 0; j < 4; ++j) sum[i][j] += x[i] * y[j];
            }
            __syncthreads();
        }
    }

    // Calls store(row, column, value) for each element that this thread holds.
    template <class Store>
    __device__ void for_each(const Store& store) const {
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j)
                store(static_cast<int>(threadIdx.x) / 16 * 4 + i, static_cast<int>(threadIdx.x) % 16 * 4 + j,
                      sum[i][j]);
    }
};

// How operands are packed into the 32-bit words of a fragment. The layouts of m16n8k16 with bfloat16 and of
// m16n8k8 with tf32 are the same in words: only the number of elements in a word differs.
struct Bf16Words {
    static constexpr int elements = 2;
    __device__ static uint32_t pack(const float* x) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(x[0], x[1]);
        uint32_t word;
        memcpy(&word, &pair, sizeof word);
        return word;
    }
    __device__ static void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_m16n8k16_bf16(c, a, b);
    }
};

struct Tf32Words {
    static constexpr int elements = 1;
    __device__ static uint32_t pack(const float* x) { return to_tf32(x[0]); }
    __device__ static void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_m16n8k8_tf32(c, a, b);
    }
};

template <class Words>
struct FragmentTile {
    static constexpr int threads = 128, step_words = 16, step = step_words * Words::elements;
    static constexpr int per_thread = tile_rows * step_words / threads;
    static constexpr int pitch = step_words + 4;  // 8 rows x 4 words of a fragment then fall into 32 banks

    struct Shared {
        uint32_t a[tile_rows][pitch], b[tile_rows][pitch];
    };

    float sum[2][4][4] = {};  // [16-row fragment][8-column fragment][element of the fragment]

    template <bool transposed>
    __device__ static int row_of(int i) {
        const int at = threadIdx.x + i * threads;
        return transposed ? at % tile_rows : at / step_words;
    }
    template <bool transposed>
    __device__ static int word_of(int i) {
        const int at = threadIdx.x + i * threads;
        return transposed ? at / tile_rows : at % step_words;
    }

    template <class Operand>
    __device__ static uint32_t load(const Operand& x, int i, int64_t l, int64_t depth) {
        constexpr bool transposed = Operand::by_columns;
        float values[Words::elements];
        for (int e = 0; e < Words::elements; ++e)
            values[e] = x.at(row_of<transposed>(i), l + word_of<transposed>(i) * Words::elements + e, depth);
        return Words::pack(values);
    }

    template <class A, class B>
    __device__ void multiply(const A& a, const B& b, int64_t depth, Shared& s) {
        constexpr bool ta = A::by_columns, tb = B::by_columns;
        uint32_t next_a[per_thread], next_b[per_thread];
        const auto fetch = [&](int64_t l) {
            for (int i = 0; i < per_thread; ++i) {
                next_a[i] = load(a, i, l, depth);
                next_b[i] = load(b, i, l, depth);
            }
        };
        fetch(0);
        for (int64_t l = 0; l < depth; l += step) {
            for (int i = 0; i < per_thread; ++i) {
                s.a[row_of<ta>(i)][word_of<ta>(i)] = next_a[i];
                s.b[row_of<tb>(i)][word_of<tb>(i)] = next_b[i];
            }
            __syncthreads();
            if (l + step < depth) fetch(l + step);
            multiply_step(s);
            __syncthreads();
        }
    }

    __device__ void multiply_step(const Shared& s) {
        const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, lane = threadIdx.x % 4;
        const int first_row = warp / 2 * 32, first_column = warp % 2 * 32;
#pragma unroll
        for (int w = 0; w < step_words; w += 8) {
            uint32_t a[2][4], b[4][2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int row = first_row + i * 16 + group;
                a[i][0] = s.a[row][w + lane];
                a[i][1] = s.a[row + 8][w + lane];
                a[i][2] = s.a[row][w + lane + 4];
                a[i][3] = s.a[row + 8][w + lane + 4];
            }
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int column = first_column + j * 8 + group;
                b[j][0] = s.b[column][w + lane];
                b[j][1] = s.b[column][w + lane + 4];
            }
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) Words::multiply(sum[i][j], a[i], b[j]);
        }
    }

    template <class Store>
    __device__ void for_each(const Store& store) const {
        const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, lane = threadIdx.x % 4;
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 4; ++j)
                for (int e = 0; e < 4; ++e)
                    store(warp / 2 * 32 + i * 16 + group + e / 2 * 8,
                          warp % 2 * 32 + j * 8 + lane * 2 + e % 2, sum[i][j][e]);
    }
};

// Calls f with the kind of tile that the element type and the precision ask for.
template <class T, class F>
void with_tile(F&& f) {
    if constexpr (std::is_same_v<T, float>) {
        if (precision() == Precision::bf16) return f.template operator()<FragmentTile<Bf16Words>>();
        if (precision() == Precision::tf32) return f.template operator()<FragmentTile<Tf32Words>>();
    }
    f.template operator()<ExactTile<T>>();
}

}  // namespace sieve::cuda
