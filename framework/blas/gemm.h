// General matrix multiply, row-major:  C = alpha * op(A) op(B) + beta * C.
//
// Contract of the CPU's, that the rest of the framework relies on:
//  - the bits of C[i,j] depend only on row i of op(A), column j of op(B), C[i,j], k, alpha and beta: not on
//    m, n, on where the row or column lies, or on the number of threads. Causality and the tie rule need
//    this. Hence kernels of our own, for AVX-512, AVX2 and plain 128-bit vectors, chosen when the program
//    runs: the libraries pick theirs by shape. Of 12 random parts of a 256^3 product OpenBLAS 0.3.21 gave 12
//    (Haswell kernels) or 2-3 (SkylakeX) other bits than in the whole; of 128x128x32 NT parts oneDNN 2.6.3
//    gave 6.
//  - beta == 0 never reads C. k == 0 gives beta * C. m, n may be 0. NaN and infinity travel as in a plain
//    sum.
//  - called from inside a parallel region it runs on the calling thread alone.
//
// At Precision::bf16 (core/precision.h) a float32 product rounds its operands to bfloat16 when it packs them
// (op(B) after alpha has joined it), sums in float32, and keeps this contract, but for two things: operands
// that are subnormal count as zero, and machines with different instructions sum in different orders. In which
// order is said in kernels_avx512_bf16.cpp and amx_tiles_inl.h. A machine that has neither gives the bits of
// AVX512_BF16, except where a sum passes through subnormal numbers.
#pragma once

#include <cstdint>
#include <string>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct Gemm {
    bool transpose_a = false, transpose_b = false;
    int64_t m = 0, n = 0, k = 0;
    T alpha = 1;
    const T* a = nullptr;  // [m,k], or [k,m] when transpose_a
    int64_t lda = 0;       // elements from one stored row to the next
    const T* b = nullptr;  // [k,n], or [n,k] when transpose_b
    int64_t ldb = 0;
    T beta = 0;
    T* c = nullptr;  // [m,n]
    int64_t ldc = 0;
};

// `count` products of one shape: the operands of the next one lie a stride further.
struct GemmBatch {
    int64_t count = 1;
    int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // in elements
};

namespace cpu {

template <class T>  // float, double
void gemm(const Gemm<T>& g);

// Takes the scratch that this product will need on this thread: where memory does not suffice, gemm itself
// will not fail.
template <class T>
void reserve_gemm(const Gemm<T>& g);

// The same for a product that the caller knows to be symmetric (m == n, op(B) = op(A)^T or A, B symmetric and
// commuting; C symmetric too when beta != 0), at little more than half the cost: the part on and below the
// diagonal has the bits that gemm gives it, the part above is its mirror image.
template <class T>
void gemm_symmetric(const Gemm<T>& g);

// One product a thread when there are enough of them; the bits are those of single calls.
template <class T>
void gemm_batched(const Gemm<T>& g, const GemmBatch& batch);

std::string gemm_backend();  // for people, at precision(): "own kernels, AVX-512, 12x32 tiles"

// How this machine computes products at bf16. The first call asks the system for AMX's tiles. The environment
// variable SIEVE_BF16 = amx, avx512_bf16 or float32 names the best way that may be taken (default: amx), so that
// a machine can repeat another one's bits; throws a usage error when it is none of them.
struct Bf16Products {
    std::string by;         // for people: "AVX512_BF16, 12x32 tiles"
    bool in_hardware;       // false: operands are rounded and multiplied in float32, which brings no speed
    std::string refused{};  // for people: why the system denies AMX to a processor that has it; or empty
};
const Bf16Products& bf16_products();

}  // namespace cpu

namespace cuda {

// By cuBLAS, at precision() for float32. Bits of a row depend on m, n and k too (cuBLAS picks its
// kernels by shape), but not on the other rows' values; the same call gives the same bits again.
template <class T>  // float, double
SIEVE_CUDA_TWIN void gemm(const Gemm<T>& g);

template <class T>  // float, double
SIEVE_CUDA_TWIN void gemm_batched(const Gemm<T>& g, const GemmBatch& batch);

}  // namespace cuda
}  // namespace sieve
