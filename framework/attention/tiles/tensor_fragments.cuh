// Tensor-core fragments (their layouts: core/cuda/mma.cuh) of tiles in shared memory, in bfloat16 and in
// tf32. The two differ in how many elements of a row 16 bytes hold, so in the depth of one product, and in
// how a tile is read across its rows. With g = lane / 4 and t = lane % 4:
//
//   a_of_rows     A[i][l] = tile[i][l]     16 rows
//   b_of_rows     B[l][j] = tile[j][l]     16 rows: two fragments
//   b_across      B[l][j] = tile[l][j]     16 columns: two fragments
//   a_of_scores   A = scores that this warp has computed: D's elements, rounded. In tf32 D[g][2t] and
//                 D[g][2t+1] stand where A has its columns t and t + 4; b_across reads rows in this order.
#pragma once

#include <cuda_bf16.h>

#include <cstring>

#include "framework/core/cuda/mma.cuh"
#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

struct Bf16Fragments {
    using Element = __nv_bfloat16;
    static constexpr int depth = 16;

    __device__ static Element round(float x) { return __float2bfloat16_rn(x); }
    __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        const uint32_t b[2] = {b0, b1};
        mma_m16n8k16_bf16(d, a, b);
    }
    __device__ static void b_across(uint32_t (&b)[4], const Element* tile, int pitch) {
        const int lane = threadIdx.x % warp_size;
        ldmatrix_x4_trans(b, tile + lane % 16 * pitch + lane / 16 * 8);
    }
    template <int tiles>
    __device__ static void a_of_scores(uint32_t (&a)[4], const float (&scores)[tiles][4], int step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float* pair = scores[2 * step + i / 2] + i % 2 * 2;
            const __nv_bfloat162 rounded = __floats2bfloat162_rn(pair[0], pair[1]);
            memcpy(&a[i], &rounded, sizeof a[i]);
        }
    }
};

struct Tf32Fragments {
    using Element = float;
    static constexpr int depth = 8;

    __device__ static Element round(float x) { return __uint_as_float(to_tf32(x)); }
    __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        const uint32_t b[2] = {b0, b1};
        mma_m16n8k8_tf32(d, a, b);
    }
    __device__ static void b_across(uint32_t (&b)[4], const Element* tile, int pitch) {
        const int lane = threadIdx.x % warp_size;
        const float* row = tile + lane % 4 * 2 * pitch + lane / 4;
#pragma unroll
        for (int i = 0; i < 4; ++i) b[i] = __float_as_uint(row[i % 2 * pitch + i / 2 * 8]);
    }
    template <int tiles>
    __device__ static void a_of_scores(uint32_t (&a)[4], const float (&scores)[tiles][4], int step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = to_tf32(scores[step][i % 2 * 2 + i / 2]);
    }
};

template <class E>
__device__ void a_of_rows(uint32_t (&a)[4], const E* tile, int pitch) {
    const int lane = threadIdx.x % warp_size;
    ldmatrix_x4(a, tile + lane % 16 * pitch + lane / 16 * full_pack<E>);
}

template <class E>
__device__ void b_of_rows(uint32_t (&b)[4], const E* tile, int pitch) {
    const int lane = threadIdx.x % warp_size;
    ldmatrix_x4(b, tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * full_pack<E>);
}

// 2^x in one instruction, 2 units in the last place; results below 2^-126 become 0.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef SIEVE_CUDA_EMULATION
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
#endif
}

}  // namespace sieve::cuda
