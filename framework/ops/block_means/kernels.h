#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct BlockMeans {
    const T* x;  // [count, length, width]
    T* y;        // [count, length / block, width]
    int64_t count, length, width, block;

    int64_t blocks() const { return length / block; }
};

namespace cpu {
template <class T>
void block_means(const BlockMeans<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void block_means(const BlockMeans<T>& a);
}  // namespace cuda

}  // namespace sieve
