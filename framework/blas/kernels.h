// The innermost parts of gemm, one set per instruction set and element type; see gemm.cpp for how they are
// used.
#pragma once

#include <cstdint>
#include <string>
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

// Two neighbouring steps of k of one row or column, rounded to bfloat16 (bf16_rounding.h): the even one in the
// low half.
using Bf16Pair = uint32_t;

// Packed rows of A lie so far apart: a k_block's pairs, and a cache line, so that rows differ in their sets.
constexpr int64_t pairs_of_row = 256;
constexpr int64_t row_stride = pairs_of_row + 16;

// As Panel, in pairs: of A a row after the other, each `row_stride` from the last one; of B a pair of steps after
// the other, each [tile_columns]. Pairs beyond k are zeros.
struct PairPanel {
    const float* source;  // X [k, count], or X^T [count, k]
    int64_t ld;
    int64_t k;
    int64_t count;  // of B at most tile_columns; the panel's other columns are filled with anything
    int64_t pairs;
    float alpha = 1;  // of B: its numbers are multiplied by it, then rounded
    Bf16Pair* panel;  // of A up to row_stride words a row are overwritten
};

// As Tile.
struct PairTile {
    int64_t rows, columns, pairs;
    const Bf16Pair* a;  // rows of row_stride, readable up to tile_rows
    const Bf16Pair* b;  // [pairs, tile_columns]
    bool accumulate;
    float* c;
    int64_t ldc;
};

// How a sum over k is ordered is each set's own, and said where it is defined.
struct PairKernels {
    const char* name;
    int64_t tile_rows, tile_columns;
    int64_t pairs_at_once;  // the pairs of a panel are a multiple of it
    void (*tile)(const PairTile&);
    void (*pack_a)(const PairPanel&);             // from A [count, k]
    void (*pack_a_transposed)(const PairPanel&);  // from A [k, count]
    void (*pack_b)(const PairPanel&);             // from B [k, count]
    void (*pack_b_transposed)(const PairPanel&);  // from B [count, k]
    void (*enter)() = nullptr;                    // each thread, before its tiles
    void (*leave)() = nullptr;                    // and after
};

const PairKernels& pair_kernels_avx512_bf16();
const PairKernels& pair_kernels_amx();

// Those that run on this machine, best first; asks the system for AMX's tiles. `refused` says why it has none of
// them where the processor has.
std::vector<const PairKernels*> supported_pair_kernels(std::string* refused = nullptr);

// The product in bfloat16: with these kernels; and by rounded operands multiplied in float32.
void gemm_with(const PairKernels& kernels, const Gemm<float>& g);
void gemm_with_rounded(const GemmKernels<float>& kernels, const Gemm<float>& g);

// What gemm.h's functions do at bf16.
void bf16_gemm(const Gemm<float>& g, bool lower_only);
void reserve_bf16_gemm(const Gemm<float>& g);

}  // namespace sieve::cpu
