#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct AddBiasForward {
    const T* x;     // [rows, width]
    const T* bias;  // [width]
    T* y;           // [rows, width]
    int64_t rows, width;
};

template <class T>
struct AddBiasBackward {
    const T* dy;  // [rows, width]
    T* dbias;     // [width]
    int64_t rows, width;
};

namespace cpu {
template <class T>
void add_bias_forward(const AddBiasForward<T>& a);
template <class T>
void add_bias_backward(const AddBiasBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void add_bias_forward(const AddBiasForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void add_bias_backward(const AddBiasBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
