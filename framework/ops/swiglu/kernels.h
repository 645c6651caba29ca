#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct SwigluForward {
    const T* gate;
    const T* up;
    T* y;
    int64_t count;
};

template <class T>
struct SwigluBackward {
    const T* dy;
    const T* gate;
    const T* up;
    T* dgate;  // or null: not wanted
    T* dup;    // or null: not wanted
    int64_t count;
};

namespace cpu {
template <class T>
void swiglu_forward(const SwigluForward<T>& a);
template <class T>
void swiglu_backward(const SwigluBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void swiglu_forward(const SwigluForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void swiglu_backward(const SwigluBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
