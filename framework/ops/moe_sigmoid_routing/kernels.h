#pragma once

#include <cstdint>

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
    T scaling;
    int64_t tokens, experts, top_k;
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
    int64_t tokens, experts, top_k;
};

namespace cpu {
template <class T>
void moe_sigmoid_routing_forward(const MoeSigmoidRoutingForward<T>& a);
template <class T>
void moe_sigmoid_routing_backward(const MoeSigmoidRoutingBackward<T>& a);
}  // namespace cpu

}  // namespace sieve
