#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct MaskFuture {
    T* scores;  // [rows, width]
    int64_t rows, width;
};

namespace cpu {
template <class T>
void mask_future(const MaskFuture<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void mask_future(const MaskFuture<T>& a);
}  // namespace cuda

}  // namespace sieve
