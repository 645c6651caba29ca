#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct RmsNormForward {
    const T* x;       // [rows, width]
    const T* weight;  // [width]
    T* y;             // [rows, width]
    T* rstd;          // [rows]
    int64_t rows, width;
    double eps;
};

template <class T>
struct RmsNormBackward {
    const T* dy;      // [rows, width]
    const T* x;       // [rows, width]
    const T* weight;  // [width]
    const T* rstd;    // [rows]
    T* dx;            // [rows, width], or null: not wanted
    T* dweight;       // [width], or null: not wanted
    int64_t rows, width;
};

namespace cpu {
template <class T>
void rms_norm_forward(const RmsNormForward<T>& a);
template <class T>
void rms_norm_backward(const RmsNormBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void rms_norm_forward(const RmsNormForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void rms_norm_backward(const RmsNormBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
