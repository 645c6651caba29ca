#pragma once

#include <cstdint>

namespace sieve {

// The main attention, whose probabilities are the target.
template <class T>
struct AttentionTarget {
    const T* q;                       // [B,H,T,dh]
    const T* k;                       // [B,G,T,dh]
    int64_t heads, key_heads, width;  // H, G, dh
    double scale;
};

}  // namespace sieve
