#pragma once

#include <cstdint>

#include "framework/attention/selection/selected_keys.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct LeakingMask {
    T* scores;          // [rows, length]
    SelectedKeys keys;  // of rows [batch, length]
    int64_t rows, rows_of_batch, length;
};

namespace cpu {
template <class T>
void leaking_mask(const LeakingMask<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void leaking_mask(const LeakingMask<T>& a);
}  // namespace cuda

}  // namespace sieve
