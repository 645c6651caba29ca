// Kernels in the dialect of the README, one for each group of its functions. nvcc compiles sample.cu, and so
// does the host compiler for the emulated device (sample_emulated.cpp), on which the tests run them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace sieve::sample {

// One warp: a row of results for each lane.
struct WarpResults {
    int indexed[32], rotated[32], up[32], up_in_eights[32], down[32], exchanged[32], exchanged_in_eights[32];
    double wide[32];
    long long wide_integer[32];
    unsigned ballot[32], odd_ballot[32], same_quarter[32];
    int any[32], none[32], all[32], not_all[32];
    int sum[32], smallest[32], largest[32];
    unsigned together[32], either[32];
};
__global__ void warp_kernel(WarpResults* y);

// votes[4 b ...] of block b: or, and, count of the threads with x != 0, or over none.
__global__ void vote_kernel(const int* x, int* votes);

// y[b] = sum of x[b][0 .. blockDim.x), by halves in shared memory. Without its barriers it is wrong.
template <class T, bool with_barriers>
__global__ void sum_kernel(const T* x, T* y);

// Reverses the values of each warp through shared memory; without the barrier lanes read too early.
template <bool with_barrier>
__global__ void reverse_kernel(const int* x, int* y);

// y[n][m] = x[m][n] transposed by tiles of 32 x 32; blocks of 32 x 8 threads.
__global__ void transpose_kernel(const float* x, float* y, int m, int n);

// What a block finds in shared memory that nobody has written: y[b] = {dynamic, fixed}.
template <class T>
__global__ void stale_kernel(T* y, bool write);

struct Totals {
    int count, largest, smallest, swaps;
    unsigned bits, common;
    unsigned long long wide;
    float sum;
    double double_sum;
    int last;
};
__global__ void atomic_kernel(Totals* t);

struct Numbers {
    int ones, leading, first, high, rounded, saturated, mantissa;
    unsigned reversed, high_unsigned, bits;
    long long double_bits;
    float root, exponential, fused, smaller, larger;
    double back;
    int smaller_integer;
    float4 vector;
    double2 pair;
};
__global__ void number_kernel(Numbers* y, const float* x);

// bf16 and fp8 of x[i], and back.
__global__ void convert_kernel(const float* x, float* bf16, float* fp8, int n);

// d[16][8] = a[16][16] b[16][8], one warp.
__global__ void mma_bf16_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d);

// d[16][8] += a[16][8] b[8][8], one warp.
__global__ void mma_tf32_kernel(const float* a, const float* b, float* d);

// y[i][lane] = what the lane gets of the 8 x 8 matrices x[i]: four by ldmatrix_x4, then two by ldmatrix_x2.
template <bool transposed>
__global__ void ldmatrix_kernel(const uint16_t* x, uint32_t* y);

// Two groups of one copy each; y = what is there after waiting until `groups_left` may be missing.
template <int groups_left>
__global__ void cp_async_kernel(const float4* x, float* y, int bytes);

}  // namespace sieve::sample
