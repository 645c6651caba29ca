// The dialect: whatever compiles here must compile with nvcc too, and mean the same.
#include <cuda_fp8.h>

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/mma.cuh"
#include "tests/cuda_emulation/tests/sample.h"

namespace sieve::sample {

constexpr unsigned whole_warp = 0xffffffffu;

__global__ void warp_kernel(WarpResults* y) {
    const int lane = threadIdx.x;
    y->indexed[lane] = __shfl_sync(whole_warp, lane * 10, 5);
    y->rotated[lane] = __shfl_sync(whole_warp, lane * 10, lane + 1);
    y->up[lane] = __shfl_up_sync(whole_warp, lane * 10, 3);
    y->up_in_eights[lane] = __shfl_up_sync(whole_warp, lane * 10, 3, 8);
    y->down[lane] = __shfl_down_sync(whole_warp, lane * 10, 4);
    y->exchanged[lane] = __shfl_xor_sync(whole_warp, lane * 10, 17);
    y->exchanged_in_eights[lane] = __shfl_xor_sync(whole_warp, lane * 10, 9, 8);
    y->wide[lane] = __shfl_xor_sync(whole_warp, lane + 0.125, 1);
    y->wide_integer[lane] = __shfl_sync(whole_warp, (static_cast<long long>(lane) << 40) + lane, 31 - lane);
    y->ballot[lane] = __ballot_sync(whole_warp, lane % 3 == 0);
    if (lane % 2 == 1) y->odd_ballot[lane] = __ballot_sync(0xaaaaaaaau, lane > 8);
    __syncwarp();
    y->same_quarter[lane] = __match_any_sync(whole_warp, lane / 8);
    y->any[lane] = __any_sync(whole_warp, lane == 7);
    y->none[lane] = __any_sync(whole_warp, lane == 32);
    y->all[lane] = __all_sync(whole_warp, lane < 32);
    y->not_all[lane] = __all_sync(whole_warp, lane != 31);
    y->sum[lane] = __reduce_add_sync(whole_warp, lane - 16);
    y->smallest[lane] = __reduce_min_sync(whole_warp, 5 - lane);
    y->largest[lane] = __reduce_max_sync(whole_warp, lane - 100);
    y->together[lane] = __reduce_and_sync(whole_warp, 0xf0u | static_cast<unsigned>(lane));
    y->either[lane] = __reduce_or_sync(whole_warp, static_cast<unsigned>(lane));
}

__global__ void vote_kernel(const int* x, int* votes) {
    const int mine = x[blockIdx.x * blockDim.x + threadIdx.x];
    const int any = __syncthreads_or(mine), all = __syncthreads_and(mine), count = __syncthreads_count(mine);
    const int none = __syncthreads_or(0);
    if (threadIdx.x != 0) return;
    votes[4 * blockIdx.x] = any != 0;
    votes[4 * blockIdx.x + 1] = all != 0;
    votes[4 * blockIdx.x + 2] = count;
    votes[4 * blockIdx.x + 3] = none != 0;
}

template <class T, bool with_barriers>
__global__ void __launch_bounds__(256) sum_kernel(const T* __restrict__ x, T* __restrict__ y) {
    __shared__ T sums[256];
    sums[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (with_barriers) __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) y[blockIdx.x] = sums[0];
}

template <bool with_barrier>
__global__ void reverse_kernel(const int* x, int* y) {
    __shared__ int values[32];
    values[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) __syncwarp();
    y[threadIdx.x] = values[31 - threadIdx.x];
}

__global__ void transpose_kernel(const float* x, float* y, int m, int n) {
    __shared__ float tile[32][33];
    for (unsigned r = threadIdx.y; r < 32; r += blockDim.y) {
        const int row = blockIdx.y * 32 + r, column = blockIdx.x * 32 + threadIdx.x;
        if (row < m && column < n) tile[r][threadIdx.x] = x[row * n + column];
    }
    __syncthreads();
    for (unsigned r = threadIdx.y; r < 32; r += blockDim.y) {
        const int row = blockIdx.x * 32 + r, column = blockIdx.y * 32 + threadIdx.x;
        if (row < n && column < m) y[row * m + column] = tile[threadIdx.x][r];
    }
}

template <class T>
__global__ void stale_kernel(T* y, bool write) {
    __shared__ T fixed[3];
    T* dynamic = cuda::dynamic_shared<T>();
    y[2 * blockIdx.x] = dynamic[5];
    y[2 * blockIdx.x + 1] = fixed[2];
    if (write) dynamic[5] = fixed[2] = 1;
}

__global__ void atomic_kernel(Totals* t) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&t->count, 1);
    atomicMax(&t->largest, i);
    atomicMin(&t->smallest, -i);
    atomicOr(&t->bits, 1u << i % 32);
    atomicAnd(&t->common, ~(1u << i % 8));
    atomicAdd(&t->wide, 1ull << 33);
    atomicAdd(&t->sum, 0.5f);
    atomicAdd(&t->double_sum, 0.25);
    atomicExch(&t->last, 7);
    int seen = t->swaps;
    for (int expected = seen - 1; seen != expected;) {
        expected = seen;
        seen = atomicCAS(&t->swaps, expected, expected + 2);
    }
}

__global__ void number_kernel(Numbers* y, const float* x) {
    y->ones = __popc(0xf0f0u);
    y->leading = __clz(0x00ffffff);
    y->first = __ffs(0x50);
    y->reversed = __brev(1u);
    y->high = __mulhi(1 << 30, -8);
    y->high_unsigned = __umulhi(0x80000000u, 6u);
    y->rounded = __float2int_rn(2.5f);
    y->saturated = __float2int_rz(1e20f);
    y->bits = __float_as_uint(__ldg(x));
    y->mantissa = __float_as_int(__int_as_float(__float_as_int(1.5f))) & 0x7fffff;
    y->double_bits = __double_as_longlong(2.0);
    y->back = __longlong_as_double(__double_as_longlong(0.1));
    y->root = rsqrtf(4.0f);
    y->exponential = __expf(0.0f) + expf(0.0f);
    y->fused = __fmaf_rn(1.0f + 0x1p-12f, 1.0f + 0x1p-12f, -1.0f);
    y->smaller = min(2.0f, -3.0f);
    y->larger = max(2.0f, -3.0f);
    y->smaller_integer = min(4, 3);
    y->vector = make_float4(1, 2, 3, 4);
    y->pair = make_double2(5, 6);
    __threadfence();
    __nanosleep(10);
}

__global__ void convert_kernel(const float* x, float* bf16, float* fp8, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x[i], 0.0f);
    bf16[i] = __bfloat162float(pair.x);
    __nv_fp8_e4m3 eight;
    eight.__x = __nv_cvt_float_to_fp8(x[i], __NV_SATFINITE, __NV_E4M3);
    fp8[i] = static_cast<float>(eight);
}

// Fragments by ldmatrix; B is stored by rows of 8 columns, hence `trans`.
__global__ void mma_bf16_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
    __shared__ __align__(16) __nv_bfloat16 a_tile[16][16];
    __shared__ __align__(16) __nv_bfloat16 b_tile[16][8];
    const int lane = threadIdx.x;
    cuda::cp_async_16(&a_tile[lane / 2][lane % 2 * 8], a + 8 * lane);
    if (lane < 16) cuda::cp_async_16(&b_tile[lane][0], b + 8 * lane);
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
    __syncthreads();
    uint32_t a_fragment[4], b_fragment[2];
    cuda::ldmatrix_x4(a_fragment, &a_tile[lane % 16][lane / 16 * 8]);
    cuda::ldmatrix_x2_trans(b_fragment, &b_tile[lane % 16][0]);
    float sums[4] = {};
    cuda::mma_m16n8k16_bf16(sums, a_fragment, b_fragment);
    for (int i = 0; i < 4; ++i) d[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

__global__ void mma_tf32_kernel(const float* a, const float* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const uint32_t a_fragment[4] = {cuda::to_tf32(a[g * 8 + t]), cuda::to_tf32(a[(g + 8) * 8 + t]),
                                    cuda::to_tf32(a[g * 8 + t + 4]), cuda::to_tf32(a[(g + 8) * 8 + t + 4])};
    const uint32_t b_fragment[2] = {cuda::to_tf32(b[t * 8 + g]), cuda::to_tf32(b[(t + 4) * 8 + g])};
    float2* rows[2] = {reinterpret_cast<float2*>(d + g * 8 + 2 * t),
                       reinterpret_cast<float2*>(d + (g + 8) * 8 + 2 * t)};
    float sums[4] = {rows[0]->x, rows[0]->y, rows[1]->x, rows[1]->y};
    cuda::mma_m16n8k8_tf32(sums, a_fragment, b_fragment);
    *rows[0] = make_float2(sums[0], sums[1]);
    *rows[1] = make_float2(sums[2], sums[3]);
}

template <bool transposed>
__global__ void ldmatrix_kernel(const uint16_t* x, uint32_t* y) {
    uint16_t* tile = cuda::dynamic_shared<uint16_t>();
    const int lane = threadIdx.x;
    for (int i = 0; i < 8; ++i) tile[lane * 8 + i] = x[lane * 8 + i];
    __syncwarp();
    uint32_t four[4], two[2];
    if (transposed) {
        cuda::ldmatrix_x4_trans(four, tile + lane * 8);
        cuda::ldmatrix_x2_trans(two, tile + lane % 16 * 8);
    } else {
        cuda::ldmatrix_x4(four, tile + lane * 8);
        cuda::ldmatrix_x2(two, tile + lane % 16 * 8);
    }
    for (int i = 0; i < 4; ++i) y[i * 32 + lane] = four[i];
    for (int i = 0; i < 2; ++i) y[(4 + i) * 32 + lane] = two[i];
}

template <int groups_left>
__global__ void cp_async_kernel(const float4* x, float* y, int bytes) {
    float* tile = cuda::dynamic_shared<float>();
    cuda::cp_async_16(tile, x);
    cuda::cp_async_commit();
    cuda::cp_async_16(tile + 4, x + 1, bytes);
    cuda::cp_async_commit();
    cuda::cp_async_wait<groups_left>();
    for (int i = 0; i < 8; ++i) y[i] = tile[i];
}

template __global__ void sum_kernel<double, true>(const double*, double*);
template __global__ void sum_kernel<double, false>(const double*, double*);
template __global__ void reverse_kernel<true>(const int*, int*);
template __global__ void reverse_kernel<false>(const int*, int*);
template __global__ void stale_kernel<int>(int*, bool);
template __global__ void stale_kernel<double>(double*, bool);
template __global__ void ldmatrix_kernel<false>(const uint16_t*, uint32_t*);
template __global__ void ldmatrix_kernel<true>(const uint16_t*, uint32_t*);
template __global__ void cp_async_kernel<0>(const float4*, float*, int);
template __global__ void cp_async_kernel<1>(const float4*, float*, int);

}  // namespace sieve::sample
