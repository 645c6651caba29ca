#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct SoftmaxForward {
    const T* x;
    T* y;
    int64_t rows, width;
};

template <class T>
struct SoftmaxBackward {
    const T* dy;
    const T* y;
    T* dx;
    int64_t rows, width;
};

namespace cpu {
template <class T>
void softmax_forward(const SoftmaxForward<T>& a);
template <class T>
void softmax_backward(const SoftmaxBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void softmax_forward(const SoftmaxForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void softmax_backward(const SoftmaxBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
