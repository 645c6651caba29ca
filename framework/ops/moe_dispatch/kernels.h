#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

struct DispatchSort {
    const int32_t* experts;  // [slots], each in [0, num_experts)
    int32_t* order;          // [slots]
    int32_t* position;       // [slots]
    int64_t* offsets;        // [num_experts + 1]
    int64_t slots, num_experts;
};

template <class T>
struct MoeDispatchForward {
    const T* x;               // [tokens, width]
    const int32_t* position;  // [tokens, top_k]
    T* y;                     // [tokens * top_k, width]
    int64_t tokens, top_k, width;
};

template <class T>
struct MoeDispatchBackward {
    const T* dy;              // [tokens * top_k, width]
    const int32_t* position;  // [tokens, top_k]
    T* dx;                    // [tokens, width]
    int64_t tokens, top_k, width;
};

namespace cpu {
void dispatch_sort(const DispatchSort& a);
template <class T>
void moe_dispatch_forward(const MoeDispatchForward<T>& a);
template <class T>
void moe_dispatch_backward(const MoeDispatchBackward<T>& a);
}  // namespace cpu

namespace cuda {
SIEVE_CUDA_TWIN void dispatch_sort(const DispatchSort& a);
template <class T>
SIEVE_CUDA_TWIN void moe_dispatch_forward(const MoeDispatchForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void moe_dispatch_backward(const MoeDispatchBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
