#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

// Added to sums of scores before a division by them.
inline constexpr double tiny_score = 1e-20;

template <class T>
struct MoeSigmoidRoutingForward {
    const T* logits;    // [tokens, experts]
    const T* bias;      // [experts]
    T* weights;         // [tokens, top_k]
    int32_t* selected;  // [tokens, top_k]
    T* scores;          // [tokens, experts], s above
    T* shares;          // [experts], f above
    T* load_balancing;  // [1]
    // [tokens, top_groups], filled with the groups that a token's experts come from, in ascending order. Null:
    // from all.
    int32_t* chosen_groups;
    T scaling;
    bool normalised;
    int64_t tokens, experts, top_k, groups, top_groups;
};

template <class T>
struct MoeSigmoidRoutingBackward {
    const T* dweights;         // [tokens, top_k], or null: none arrived
    const T* dload_balancing;  // [1], or null: none arrived
    const T* weights;          // [tokens, top_k]
    const int32_t* selected;   // [tokens, top_k]
    const T* scores;           // [tokens, experts]
    const T* shares;           // [experts]
    T* dlogits;                // [tokens, experts]
    T scaling;
    bool normalised;
    int64_t tokens, experts, top_k;
};

// bias[e] moves by `speed`: down when the expert has more than the mean number of assignments, up when fewer.
template <class T>
struct MoveBalancingBias {
    T* bias;                 // [experts]
    const int64_t* offsets;  // [experts + 1], of a DispatchPlan
    const double* guard;     // CUDA only, or null: nothing moves unless it is finite
    T speed;
    int64_t experts;
};

namespace cpu {
template <class T>
void move_balancing_bias(const MoveBalancingBias<T>& a);
template <class T>
void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<T>& a);
template <class T>
void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void move_balancing_bias(const MoveBalancingBias<T>& a);
template <class T>
SIEVE_CUDA_TWIN void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
