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
//
// Precisions of the selection (float32 alone; docs/method.md). `~` is what is rounded, w never is:
//   bf16   q~, k~ = q, k rounded to bfloat16; I as above
//   fp8    q~, k~ = rows rotated by a Hadamard matrix, E4M3 with a power of two as each row's scale; I as
//          above. dI is a power of two
//   int8   q = s[t,j] q~, k = s[s] k~ in integers, rotated where dI is a power of two (ops/quantize_rows):
//          I[t,s] = s[s] * scale * sum_j (w[t,j] s[t,j]) ReLU(q~[t,j] . k~[s]), the dot products exact
// Products of rounded numbers are added in float32. The CPU computes bf16 and fp8 in float32, at its speed,
// and int8 in integers. The rounded operands and int8's dot products are the same on every device.
//
// Quantisation is straight-through: only the selection reads rounded scores. The alignment loss and its
// gradients read float32 q, k and w, because rounding has a gradient of 0 almost everywhere, and because what
// is trained then does not depend on the format that selects.
#pragma once

#include "framework/attention/scores/indexer_operands.h"
#include "framework/attention/selection/selection.h"

namespace sieve {

enum class IndexerPrecision { fp32, bf16, fp8, int8 };

// I [B,T,T], materialised: for analysis, plots and as the oracle of what follows. Saves q, k and w.
// Throws when shapes or dtypes differ, HI or dI is 0.
Tensor indexer_scores(const IndexerOperands& operands);

// Exactly top_k_select(indexer_scores(operands), top_k), without ever holding T x T: memory O(T).
// Rows t < top_k take all their keys and are not scored. Records nothing: no gradient flows through a
// selection. Throws when top_k < 1, and (kind diverged, on the CPU alone) when a score that is compared is
// NaN, naming its batch row and query. On CUDA a NaN ranks below all numbers. Other precisions than fp32 need
// float32, dI <= 1024 for fp8 and int8, and a power of two for fp8.
Selection indexer_select(const IndexerOperands& operands, int64_t top_k,
                         IndexerPrecision precision = IndexerPrecision::fp32);

// Queries and keys as a precision has them, in float32, for the float32 indexer; fp32's are the operands
// themselves. The scores of int8's (integers; w with the queries' scales) are to be multiplied by the scale
// of the key.
struct RoundedQueries {
    Tensor q, w;  // [B,T,HI,dI], [B,T,HI]
};
struct RoundedKeys {
    Tensor k;       // [B,T,dI]
    Tensor scales;  // [B,T]; int8 alone
};
RoundedQueries rounded_queries(const Tensor& q, const Tensor& w, IndexerPrecision precision);
RoundedKeys rounded_keys(const Tensor& k, IndexerPrecision precision);

}  // namespace sieve
