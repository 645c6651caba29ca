#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct GroupedLinearForward {
    const T* x;               // [rows, in], sorted by expert
    const T* const* weights;  // experts of [out, in]; the list itself lies on the host
    T* y;                     // [rows, out]
    const int64_t* offsets;   // [experts + 1], from 0 to rows
    int64_t rows, experts, in, out;
};

template <class T>
struct GroupedLinearBackward {
    const T* dy;              // [rows, out]
    const T* x;               // [rows, in]
    const T* const* weights;  // experts of [out, in]
    T* dx;                    // [rows, in], or null: not wanted
    T* const* dweights;       // experts of [out, in], each null when not wanted
    const int64_t* offsets;   // [experts + 1], from 0 to rows
    int64_t rows, experts, in, out;
};

namespace cpu {
template <class T>
void grouped_linear_forward(const GroupedLinearForward<T>& a);
template <class T>
void grouped_linear_backward(const GroupedLinearBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void grouped_linear_forward(const GroupedLinearForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void grouped_linear_backward(const GroupedLinearBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
