// The argument structs are dense attention's, with `keys` set.
#pragma once

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/core/cuda/twin.h"

namespace sieve::cpu {

template <class T>
void sparse_attention_forward(const AttentionForward<T>& a);
template <class T>
void sparse_attention_backward(const AttentionBackward<T>& a);

}  // namespace sieve::cpu

namespace sieve::cuda {
template <class T>
SIEVE_CUDA_TWIN void sparse_attention_forward(const AttentionForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void sparse_attention_backward(const AttentionBackward<T>& a);

}  // namespace sieve::cuda
