#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

// Where the row (b,t,h) of a tensor starts: at b * batch + t * token + h * head.
struct RowStrides {
    int64_t batch, token, head;
};

// Copies the first `columns` elements of every row.
template <class T>
struct CopyRows {
    const T* x;  // or null: zeros
    RowStrides from;
    T* y;
    RowStrides to;
    int64_t batches, tokens, heads, columns;
};

namespace cpu {
template <class T>
void copy_rows(const CopyRows<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void copy_rows(const CopyRows<T>& a);
}  // namespace cuda

}  // namespace sieve
