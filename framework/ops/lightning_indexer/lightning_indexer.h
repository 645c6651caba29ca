// The lightning indexer of DeepSeek Sparse Attention (DeepSeek-V3.2-Exp, section 2.1).
//
//   x[t,j,s] = q[t,j] . k[s]
//   I[t,s]   = scale * sum_j w[t,j] ReLU(x[t,j,s])            for s <= t,  -inf for s > t
//
//   sums over s <= t (what arrives at a -inf goes nowhere), ReLU'(0) = 0:
//   dw[t,j]  = scale * sum_s dI[t,s] ReLU(x[t,j,s])
//   dq[t,j]  = scale * sum_s dI[t,s] w[t,j] [x > 0] k[s]
//   dk[s]    = scale * sum_t sum_j dI[t,s] w[t,j] [x > 0] q[t,j]
//
// Shapes: q [B,T,HI,dI], k [B,T,dI] (one key for all heads), w [B,T,HI]; all float32 or all float64, in which
// scores are also accumulated and compared. The bits of I[t,s] depend on q[t], w[t] and k[s] alone: not on t,
// s, B, T or the number of threads. So equal keys tie exactly. No score is -0. HI = 0 or dI = 0 gives scores
// of 0.
#pragma once

#include "framework/core/tensor.h"
#include "framework/ops/top_k/selection.h"

namespace sieve {

// I [B,T,T], materialised: for analysis, plots and as the oracle of what follows. Saves q, k and w.
// Throws when shapes or dtypes differ, HI or dI is 0.
Tensor indexer_scores(const Tensor& q, const Tensor& k, const Tensor& w, double scale);

// Exactly top_k_select(indexer_scores(q, k, w, scale), top_k), without ever holding T x T: memory O(T).
// Rows t < top_k take all their keys and are not scored. Records nothing: no gradient flows through a
// selection. Throws when top_k < 1, and (kind diverged, on the CPU alone) when a score that is compared is
// NaN, naming its batch row and query. On CUDA a NaN ranks below all numbers.
Selection indexer_select(const Tensor& q, const Tensor& k, const Tensor& w, double scale, int64_t top_k);

}  // namespace sieve
