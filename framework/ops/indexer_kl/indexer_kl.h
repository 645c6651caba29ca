// Training losses of the lightning indexer. KL divergence to the main attention (DeepSeek-V3.2-Exp,
// section 2.1.1):
//
//   z[t,h,s] = attention_scale * q[t,h] . k[s,g(h)]              head h reads key head g(h) = h / (H / G)
//   p[t,s]   = (1/H) sum_h softmax_s(z[t,h,s])                   the target, a constant
//   r[t,s]   = softmax_s(I[t,s])                                 I as in ops/lightning_indexer
//   loss     = (1/(B T)) sum_(b,t) sum_s p[t,s] (log p[t,s] - log r[t,s])       terms with p = 0 are 0
//
//   dI[t,s]  = (r[t,s] - p[t,s]) / (B T), and from there as in ops/lightning_indexer
//
// The sums over s, those of the softmaxes too, run over S_t (sparse) or over all s <= t (dense); so p sums to
// one, and the formula for dI holds.
//
// Negentropy: no target, but that r be as uniform as it can (docs/method.md says where that comes from):
//
//   H[t]     = -sum_s r[t,s] log r[t,s]                          over all s <= t
//   loss     = (1/(B T)) sum_(b,t) (log(t + 1) - H[t])           at least 0, but for rounding
//   dI[t,s]  = r[t,s] (log r[t,s] + H[t]) / (B T)
//
// Shapes: indexer q [B,T,HI,dI], k [B,T,dI], w [B,T,HI]; main q [B,H,T,dh], k [B,G,T,dh]; H a multiple of G;
// all float32 or all float64. The loss is a scalar; 0 when there is no row.
//
// H p of selected keys may come from sparse attention instead (`weights`), for the rows that it kept.
//
// Gradients go to the indexer's q, k and w only. Main q and k are read detached: they never receive one,
// whether or not they ask. The gradients are computed together with the loss and saved (three tensors of the
// indexer's sizes); backward only multiplies them by the cotangent. T x T is never held.
#pragma once

#include "framework/attention/scores/indexer_operands.h"
#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"
#include "framework/core/tensor.h"

namespace sieve {

// Throws when shapes, dtypes or devices differ, H is no multiple of G, or `weights` do not fit the selection.
Tensor indexer_kl_sparse(const IndexerOperands& indexer, const MainAttention& attention,
                         const Selection& selection, const SelectedWeights& weights = {});
Tensor indexer_kl_dense(const IndexerOperands& indexer, const MainAttention& attention);
Tensor indexer_negentropy(const IndexerOperands& indexer);

}  // namespace sieve
