// The innermost parts of gemm, one set per instruction set and element type; see gemm.cpp for how they are
// used.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/blas/gemm.h"
#include "framework/core/vectors.h"  // for kernels_inl.h, which has no includes

namespace sieve::cpu {

// One tile of C, at most tile_rows x tile_columns:  C = A B (+ C when accumulate).
template <class T>
struct Tile {
    int64_t rows, columns, k;
    const T* a;      // [k, rows]
    int64_t a_step;  // elements from one step of k to the next
    int64_t a_row;   // and from one row to the next: 1 when packed
    const T* b;      // [k, columns], readable and finite or not up to tile_columns rounded to whole vectors
    int64_t b_step;
    bool accumulate;
    T* c;  // [rows, columns]
    int64_t ldc;
};

// A panel: `width` columns of a matrix X [k, width] side by side, step after step of k.
template <class T>
struct Panel {
    const T* source;  // X [k, count], or X^T [count, k] for pack_transposed
    int64_t ld;
    int64_t k;
    int64_t count;  // at most width; the panel's other columns are left as they are or filled with anything
    T* panel;       // [k, width]; up to one vector more is overwritten behind the end
};

template <class T>
struct GemmKernels {
    const char* name;
    int64_t tile_rows, tile_columns;
    void (*tile)(const Tile<T>&);
    void (*pack_a)(const Panel<T>&);             // width tile_rows
    void (*pack_a_transposed)(const Panel<T>&);  // width tile_rows
    void (*pack_b)(const Panel<T>&);             // width tile_columns
    void (*pack_b_transposed)(const Panel<T>&);  // width tile_columns
};

template <class T>
const GemmKernels<T>& gemm_kernels_avx512();
template <class T>
const GemmKernels<T>& gemm_kernels_avx2();
template <class T>
const GemmKernels<T>& gemm_kernels_baseline();

// Those that run on this machine, best first; and gemm with one of them, for tests.
template <class T>
std::vector<const GemmKernels<T>*> supported_gemm_kernels();
template <class T>
void gemm_with(const GemmKernels<T>& kernels, const Gemm<T>& g);

}  // namespace sieve::cpu
