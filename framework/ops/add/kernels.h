#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct AddForward {
    const T* a;  // [count]
    const T* b;  // [count]
    T* y;        // [count]
    int64_t count;
};

namespace cpu {
template <class T>
void add_forward(const AddForward<T>& args);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void add_forward(const AddForward<T>& args);
}  // namespace cuda

}  // namespace sieve
