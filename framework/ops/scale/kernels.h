#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct ScaleForward {
    const T* x;  // [count]
    T* y;        // [count]
    int64_t count;
    double factor;
};

namespace cpu {
template <class T>
void scale_forward(const ScaleForward<T>& args);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void scale_forward(const ScaleForward<T>& args);
}  // namespace cuda

}  // namespace sieve
