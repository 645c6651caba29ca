#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct TopKSelect {
    const T* scores;   // [B,T,T], read at s <= t
    int32_t* indices;  // [B,T,slots]
    int32_t* counts;   // [B,T]
    int64_t* bad_row;  // the lowest row (b T + t) with a NaN score, or -1; of the CPU only
    int64_t batch, length, slots;
};

namespace cpu {
template <class T>
void top_k_select(const TopKSelect<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void top_k_select(const TopKSelect<T>& a);
}  // namespace cuda

}  // namespace sieve
