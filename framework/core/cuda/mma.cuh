// Tensor-core products and the copies that feed them, for one warp. All 32 lanes call each function together;
// with g = lane / 4 and t = lane % 4 a lane holds
//
//           m16n8k16, bf16          m16n8k8, tf32
//   a[0]    A[g  ][2t,   2t+1]      A[g  ][t  ]
//   a[1]    A[g+8][2t,   2t+1]      A[g+8][t  ]
//   a[2]    A[g  ][2t+8, 2t+9]      A[g  ][t+4]
//   a[3]    A[g+8][2t+8, 2t+9]      A[g+8][t+4]
//   b[0]    B[2t,   2t+1][g]        B[t  ][g]
//   b[1]    B[2t+8, 2t+9][g]        B[t+4][g]
//
//   d = D[g][2t], D[g][2t+1], D[g+8][2t], D[g+8][2t+1]      both
//
// Of two 16-bit elements in a register the first is in the low half. Operands are float bits for tf32, of
// which the hardware ignores the low 13: pass them through to_tf32 to round.
#pragma once

#ifdef SIEVE_CUDA_EMULATION
#include "cuda_emulation/mma_emulated.h"
#else

#include <cstdint>

namespace sieve::cuda {

// D[16][8] += A[16][16] B[16][8]
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// D[16][8] += A[16][8] B[8][8]
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// x rounded to tf32 (10 bits of mantissa), to nearest and ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
    return bits;
}

// The address within shared memory, as the instructions below want it.
__device__ __forceinline__ uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Matrices M_i of 8x8 16-bit elements in shared memory: lane 8 i + r gives the address of row r of M_i, a
// multiple of 16 bytes. Afterwards r[i] = M_i[g][2t, 2t+1]; `trans`: M_i[2t, 2t+1][g].
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// Two matrices: the addresses of lanes 16 to 31 do not count.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// Starts a copy of 16 bytes from global to shared memory, both at multiples of 16. Only the first `bytes` are
// read; the rest becomes 0 (edges of a tile: pass 0 and any valid address).
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(bytes)
                 : "memory");
}
// Closes a group: the copies that this thread started since the last commit.
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Waits until all but the newest `groups_left` groups of this thread are there. Other threads' copies need a
// barrier.
template <int groups_left>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(groups_left) : "memory");
}

}  // namespace sieve::cuda

#endif
