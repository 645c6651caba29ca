#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"
#include "framework/core/rng.h"

namespace sieve {

template <class T>
struct NoiseForward {
    const T* x;
    T* y;
    int64_t count;
    double std;
    RngKey key;
};

namespace cpu {
template <class T>
void noise_forward(const NoiseForward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void noise_forward(const NoiseForward<T>& a);
}  // namespace cuda

}  // namespace sieve
