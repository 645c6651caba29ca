#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct LayerNormForward {
    const T* x;       // [rows, width]
    const T* weight;  // [width]
    const T* bias;    // [width]
    T* y;             // [rows, width]
    T* mean;          // [rows]
    T* rstd;          // [rows]
    int64_t rows, width;
    double eps;
};

template <class T>
struct LayerNormBackward {
    const T* dy;
    const T* x;
    const T* weight;
    const T* mean;
    const T* rstd;
    T* dx;       // [rows, width], or null: not wanted
    T* dweight;  // [width]
    T* dbias;    // [width]
    int64_t rows, width;
};

namespace cpu {
template <class T>
void layer_norm_forward(const LayerNormForward<T>& a);
template <class T>
void layer_norm_backward(const LayerNormBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void layer_norm_forward(const LayerNormForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void layer_norm_backward(const LayerNormBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
