#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"
#include "framework/core/rng.h"

namespace sieve {

// One kernel serves all forwards and backwards (m: the mask, 0 or scale):
//
//   plain:       y = residual + m source      (residual null: 0)
//   silu:        y = m silu(x)
//   silu_slope:  y = m source silu'(x)
enum class DropoutForm { plain, silu, silu_slope };

template <class T>
struct DropoutApply {
    const T* source;    // [count]; unused by the silu form
    const T* x;         // [count]; unused by the plain form
    const T* residual;  // [count], or null
    T* y;               // [count]
    int64_t count;
    RngKey key;
    uint32_t
        threshold;  // element i is kept when its word >> 8 is at least this; 0: all are, nothing is drawn
    T scale;
    DropoutForm form;
};

namespace cpu {
template <class T>
void dropout_apply(const DropoutApply<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void dropout_apply(const DropoutApply<T>& a);
}  // namespace cuda

}  // namespace sieve
