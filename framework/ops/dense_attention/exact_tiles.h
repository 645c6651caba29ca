// Attention by tiles with exact products. Rows [0, attended.rows) as tile_launches.h says.
#pragma once

#include "framework/ops/dense_attention/attended.cuh"
#include "framework/ops/dense_attention/kernels.h"

namespace sieve::cuda {

template <class T>
void exact_tiles_forward(const AttentionForward<T>& a, const Attended& attended);
template <class T>
void exact_tiles_backward(const AttentionBackward<T>& a, const Attended& attended);

}  // namespace sieve::cuda
