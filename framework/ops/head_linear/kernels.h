#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

struct HeadLinearSizes {
    int64_t tokens, heads;
    int64_t block;         // rows of the weight per head, R
    int64_t first, count;  // which of them are read, N
    int64_t columns;       // of the weight, C
};

// y = x W_h^T for every head, or y = x W_h when `transposed`.
template <class T>
struct HeadLinear {
    const T* x;       // [tokens, heads, C], or [tokens, heads, N] when transposed
    const T* weight;  // [heads * R, C]
    T* y;             // [tokens, heads, N], or [tokens, heads, C]
    bool transposed;
    HeadLinearSizes size;
};

template <class T>
struct HeadLinearWeightGradient {
    const T* narrow;  // [tokens, heads, N]: dy, or x when transposed
    const T* wide;    // [tokens, heads, C]: x, or dy
    T* dweight;       // [heads * R, C], written whole
    HeadLinearSizes size;
};

namespace cpu {
template <class T>
void head_linear(const HeadLinear<T>& a);
template <class T>
void head_linear_weight_gradient(const HeadLinearWeightGradient<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void head_linear(const HeadLinear<T>& a);
template <class T>
SIEVE_CUDA_TWIN void head_linear_weight_gradient(const HeadLinearWeightGradient<T>& a);
}  // namespace cuda

}  // namespace sieve
