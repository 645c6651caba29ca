// What dense and sparse attention compute by tiles on a CUDA device: one set of kernels for both, so that a
// selection of every key gives dense attention's bits.
#pragma once

#include "framework/attention/tiles/attention_kernels.h"

namespace sieve::cuda {

// out and lse of the rows [0, rows) of every head, which attend to keys [0, rows) alone.
template <class T>
void attend_by_tiles(const AttentionForward<T>& a, int64_t rows);

// Writes the dq of those rows, and the dk and dv that the keys [0, rows) get from them.
template <class T>
void attend_back_by_tiles(const AttentionBackward<T>& a, int64_t rows);

}  // namespace sieve::cuda
