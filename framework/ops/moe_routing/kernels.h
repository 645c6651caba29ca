#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct MoeRoutingForward {
    const T* logits;    // [tokens, experts]
    T* weights;         // [tokens, top_k]
    int32_t* selected;  // [tokens, top_k]
    T* probabilities;   // [tokens, experts]
    T* shares;          // [experts], f above
    T* load_balancing;  // [1]
    T factor;           // 0: weights are the softmax over the selected; else the probabilities times this
    int64_t tokens, experts, top_k;
};

template <class T>
struct MoeRoutingBackward {
    const T* dweights;         // [tokens, top_k], or null: none arrived
    const T* dload_balancing;  // [1], or null: none arrived
    const T* weights;          // [tokens, top_k]
    const int32_t* selected;   // [tokens, top_k]
    const T* probabilities;    // [tokens, experts]
    const T* shares;           // [experts]
    T* dlogits;                // [tokens, experts]
    bool through_all;          // whether the weights' gradient is that of the probabilities
    int64_t tokens, experts, top_k;
};

namespace cpu {
template <class T>
void moe_routing_forward(const MoeRoutingForward<T>& a);
template <class T>
void moe_routing_backward(const MoeRoutingBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void moe_routing_forward(const MoeRoutingForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void moe_routing_backward(const MoeRoutingBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
