// The lightning indexer's best among keys that something else has chosen already.
//
//   I[t,s] = scale * sum_j w[t,j] ReLU(q[t,j] . k[s])             for the candidates s of query t
//   S_t    = the min(k, their number) candidates that come first by (I[t,s] descending, s ascending)
//
// All float32 or all float64, in which scores are added and compared; the bits of I depend on q[t], w[t] and
// k[s] alone. Work O(T candidates); records nothing. Rows with k candidates or fewer keep them all and are
// not scored.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/core/tensor.h"

namespace sieve {

// q [B,Q,HI,dI], w [B,Q,HI]: of the last Q of `length` tokens; k [B,C,dI] with C >= length; candidates
// [B,Q,slots] -> indices [B,Q,min(k,slots)], counts [B,Q]. Throws when top_k < 1, shapes, dtypes or devices
// differ, the candidates are no selection (check_selection.h), and (kind diverged, on the CPU alone) when a
// score that is compared is NaN. On CUDA a NaN ranks below all numbers.
Selection select_among(const Selection& candidates, const Tensor& q, const Tensor& w, double scale,
                       const Tensor& k, int64_t length, int64_t top_k);

}  // namespace sieve
