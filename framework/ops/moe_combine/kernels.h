#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct MoeCombineForward {
    const T* y;               // [tokens * top_k, width]
    const T* weights;         // [tokens, top_k]
    const int32_t* position;  // [tokens, top_k]
    T* out;                   // [tokens, width]
    int64_t tokens, top_k, width;
};

template <class T>
struct MoeCombineBackward {
    const T* dout;            // [tokens, width]
    const T* y;               // [tokens * top_k, width]
    const T* weights;         // [tokens, top_k]
    const int32_t* position;  // [tokens, top_k]
    T* dy;                    // [tokens * top_k, width], or null: not wanted
    T* dweights;              // [tokens, top_k], or null: not wanted
    int64_t tokens, top_k, width;
};

namespace cpu {
template <class T>
void moe_combine_forward(const MoeCombineForward<T>& a);
template <class T>
void moe_combine_backward(const MoeCombineBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void moe_combine_forward(const MoeCombineForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void moe_combine_backward(const MoeCombineBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
