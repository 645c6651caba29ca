#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct SumForward {
    const T* x;  // [count]
    T* y;        // one element
    int64_t count;
};

template <class T>
struct SumBackward {
    const T* dy;  // one element
    T* dx;        // [count]
    int64_t count;
};

namespace cpu {
template <class T>
void sum_forward(const SumForward<T>& args);
template <class T>
void sum_backward(const SumBackward<T>& args);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void sum_forward(const SumForward<T>& args);
template <class T>
SIEVE_CUDA_TWIN void sum_backward(const SumBackward<T>& args);
}  // namespace cuda

}  // namespace sieve
