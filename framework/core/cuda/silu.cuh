// SiLU and its slope on the device, at full accuracy.
#pragma once

#include <cuda_runtime.h>

namespace sieve::cuda {

template <class T>
__device__ inline T sigmoid(T x) {
    return T(1) / (T(1) + exp(-x));
}

template <class T>
__device__ inline T silu(T x) {
    return x * sigmoid(x);
}

template <class T>
__device__ inline T silu_slope(T x) {
    const T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
}

}  // namespace sieve::cuda
