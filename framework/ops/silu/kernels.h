#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"
#include "framework/core/vector_math.h"

namespace sieve {

template <class T>
struct SiluForward {
    const T* x;
    T* y;
    int64_t count;
};

template <class T>
struct SiluBackward {
    const T* dy;
    const T* x;
    T* dx;
    int64_t count;
};

namespace cpu {
template <class T>
void silu_forward(const SiluForward<T>& a);
template <class T>
void silu_backward(const SiluBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void silu_forward(const SiluForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void silu_backward(const SiluBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
