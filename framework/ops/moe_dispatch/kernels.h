#pragma once

#include <cstdint>

namespace sieve {

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
template <class T>
void moe_dispatch_forward(const MoeDispatchForward<T>& a);
template <class T>
void moe_dispatch_backward(const MoeDispatchBackward<T>& a);
}  // namespace cpu

}  // namespace sieve
