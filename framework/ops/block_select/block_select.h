// Selection by blocks: past blocks of n tokens are ranked by their mean keys, the query's own block is always
// read (MoBA: Lu et al., "Mixture of Block Attention for Long-Context LLMs", 2025, section 2.2: mean pooling,
// the current block chosen in any case; there a query reads a number of blocks, here k keys).
//
//   own      = the keys floor(t/n) n .. t of query t
//   A[t,j]   = the score of block j < floor(t/n), whose n keys all lie before `own` (below)
//   m        = the least number of past blocks that hold, with `own`, min(k, t+1) keys
//   S_t      = the last min(k, t+1) keys of `own` and of the m blocks that come first by (A descending,
//              j ascending)
//
// So what is too much is left out of the earliest of the chosen blocks, or of `own` where that alone has more
// than k keys.
//
//   linear     A[t,j] = sum_h q[t,h] . mean[j,g(h)]                 one choice for all heads of a query
//   lightning  A[t,j] = scale sum_h w[t,h] ReLU(q[t,h] . mean[j])   the lightning indexer's, of pooled keys
//
// All float32 or all float64, in which scores are added and compared. The bits of A depend on q[t], w[t] and
// mean[j] alone. Row t depends on nothing behind t. Memory O(T k + T/n); records nothing. Rows that need all
// or none of the past blocks are not scored.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/core/tensor.h"

namespace sieve {

// The past of the queries: `length` tokens, of which the queries are the last.
struct KeyBlocks {
    Tensor means;  // [B,G,N,d] with N >= length / block (block_means.h); G is 1 for lightning scores
    int64_t block = 1, length = 0;
};

// q [B,H,Q,d], H a multiple of G -> indices [B,Q,min(k,length)], counts [B,Q]. Throws when top_k or block <
// 1, shapes, dtypes or devices differ, or Q > length, and (kind diverged, on the CPU alone) when a score that
// is compared is NaN. On CUDA a NaN ranks below all numbers.
Selection block_select(const Tensor& q, const KeyBlocks& keys, int64_t top_k);

// q [B,Q,HI,dI], w [B,Q,HI]; otherwise the same.
Selection block_select(const Tensor& q, const Tensor& w, double scale, const KeyBlocks& keys, int64_t top_k);

}  // namespace sieve
