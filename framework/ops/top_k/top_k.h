// Selection of the best k keys of each query.
//
//   S_t = the min(k, t+1) keys s <= t that come first when ranked by (scores[t,s] descending, s ascending)
//
// A key in the future is never selected. -0 and +0 tie; infinities have their place in the order.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/core/tensor.h"

namespace sieve {

// scores [B,T,T], float32 or float64; what lies at s > t is not read. Records nothing.
// Throws when top_k < 1, the shape is another, or (kind diverged, on the CPU alone) a score of a row t >=
// top_k is NaN. On CUDA a NaN ranks below all numbers.
Selection top_k_select(const Tensor& scores, int64_t top_k);

}  // namespace sieve
