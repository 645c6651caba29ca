// Private to this room.
// Attention by tiles with exact products. Rows [0, attended.rows) as tile_launches.h says.
#pragma once

#include "framework/attention/tiles/attended.cuh"
#include "framework/attention/tiles/attention_kernels.h"

namespace sieve::cuda {

template <class T>
void exact_tiles_forward(const AttentionForward<T>& a, const Attended& attended);
template <class T>
void exact_tiles_backward(const AttentionBackward<T>& a, const Attended& attended);

}  // namespace sieve::cuda
