// Elementwise work that tensors themselves need, below any op: filling, converting, adding up gradients.
#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct Fill {
    T* y;  // [count]
    int64_t count;
    T value;
};

template <class To, class From>
struct Convert {
    To* y;          // [count]
    const From* x;  // [count]
    int64_t count;
};

template <class T>
struct Accumulate {   // target += source
    T* target;        // [count]
    const T* source;  // [count]
    int64_t count;
};

namespace cpu {
template <class T>
void fill(const Fill<T>& a);
template <class To, class From>
void convert(const Convert<To, From>& a);
template <class T>
void accumulate(const Accumulate<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void fill(const Fill<T>& a);
template <class To, class From>
SIEVE_CUDA_TWIN void convert(const Convert<To, From>& a);
template <class T>
SIEVE_CUDA_TWIN void accumulate(const Accumulate<T>& a);
}  // namespace cuda

// Instantiates X(To, From) for all pairs of element types.
#define SIEVE_FOR_ALL_CONVERSIONS(X) \
    SIEVE_CONVERSIONS_TO(X, float)   \
    SIEVE_CONVERSIONS_TO(X, double)  \
    SIEVE_CONVERSIONS_TO(X, int32_t) \
    SIEVE_CONVERSIONS_TO(X, int64_t) \
    SIEVE_CONVERSIONS_TO(X, uint8_t)
#define SIEVE_CONVERSIONS_TO(X, To) X(To, float) X(To, double) X(To, int32_t) X(To, int64_t) X(To, uint8_t)

}  // namespace sieve
