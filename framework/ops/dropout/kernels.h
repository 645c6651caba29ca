#pragma once

#include <cstdint>

#include "framework/core/rng.h"

namespace sieve {

// One kernel serves all forwards and backwards:  y = residual + m * source * factor(x), where
// forward silu: source = 1, factor = silu(x); backward silu: source = dy, factor = silu'(x); plain: factor
// = 1.
enum class DropoutForm { plain, silu, silu_slope };

template <class T>
struct DropoutApply {
    const T* source;    // [count]; unused by the silu form
    const T* x;         // [count]; unused by the plain form
    const T* residual;  // [count], or null
    T* y;               // [count]
    int64_t count;
    RngKey key;
    float p;
    DropoutForm form;
};

namespace cpu {
template <class T>
void dropout_apply(const DropoutApply<T>& a);
}  // namespace cpu

}  // namespace sieve
