// The mean of each block of rows: what stands for a block of keys when blocks are ranked (MoBA: Lu et al.,
// "Mixture of Block Attention for Long-Context LLMs", 2025, section 2.2).
//
//   y[a,j,:] = (1/n) sum_{i<n} x[a, j n + i, :]     for the whole blocks j < T / n; no later row is read
//
// Rows are added in their order, so the bits of a block depend on its rows alone. Records nothing: what ranks
// keys has no gradient.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x [A,T,w], float32 or float64 -> [A, T / block, w]. Throws for another rank and for block < 1.
Tensor block_means(const Tensor& x, int64_t block);

}  // namespace sieve
