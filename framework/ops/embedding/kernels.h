#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct EmbeddingForward {
    const int32_t* tokens;  // [count]
    const T* weight;        // [vocab, width]
    T* y;                   // [count, width]
    int64_t count, vocab, width;
};

template <class T>
struct EmbeddingBackward {
    const int32_t* tokens;  // [count]
    const T* dy;            // [count, width]
    T* dweight;             // [vocab, width]
    int64_t count, vocab, width;
};

namespace cpu {
template <class T>
void embedding_forward(const EmbeddingForward<T>& a);
template <class T>
void embedding_backward(const EmbeddingBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void embedding_forward(const EmbeddingForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void embedding_backward(const EmbeddingBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
