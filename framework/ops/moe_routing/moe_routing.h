// Top-k routing of a mixture of experts (Shazeer et al., "Outrageously large neural networks", 2017;
// balancing loss as in Fedus et al., "Switch Transformers", 2021). N tokens, E experts, K = top_k.
//
//   e[n,0..K)  = the K largest logits of token n, by (logit descending, index ascending)
//   p[n,e]     = exp(l[n,e]) / sum_i exp(l[n,i])                       softmax over all logits
//   w[n,j]     = exp(l[n,e[n,j]]) / sum_i exp(l[n,e[n,i]])             softmax over the selected logits
//                p[n,e[n,j]], or E p[n,e[n,j]]                         all, scaled (RouterWeights)
//   f[e]       = #{(n,j): e[n,j] = e} / (N K),    P[e] = mean_n p[n,e]
//   balancing  = E sum_e f[e] P[e]                                     1 when the load is even
//
//   dl[n,e[n,j]] = w[n,j] (dw[n,j] - sum_i w[n,i] dw[n,i])             0 for experts that are not selected
//   dl[n,e]      = sum_j w[n,j] dw[n,j] ([e = e[n,j]] - p[n,e])        all, scaled, straight_through
//   dl[n,e]     += dbalancing E/N p[n,e] (f[e] - sum_i f[i] p[n,i])    f counts, it has no gradient
//
// Saves w, e, p and f. P is summed in float64, in an order that does not depend on the number of threads.
// Without tokens the balancing loss is 0. A NaN logit gives NaN weights and valid, distinct experts.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// How the outputs of a token's experts are weighed. With one expert a token (K = 1) the softmax over the
// selected logit is 1 whatever the logit is, so that no loss but the balancing one reaches the router; the others
// train it.
enum class RouterWeights {
    selected,          // softmax over the selected logits
    all,               // softmax over all logits, as in Switch Transformers: rows sum to less than 1
    scaled,            // that times E, so that even probabilities weigh 1
    straight_through,  // the value of `selected` with the gradient of `all`'s logarithm, dw = w d(log p)
};

struct Routing {
    Tensor weights;         // [N,K]; each row sums to 1 with `selected` and `straight_through`
    Tensor experts;         // int32 [N,K]
    Tensor load_balancing;  // scalar, to be multiplied by its weight in the loss
};

// logits [N,E], float32 or float64. Throws unless 1 <= top_k <= E.
Routing moe_routing(const Tensor& logits, int64_t top_k, RouterWeights weights = RouterWeights::selected);

}  // namespace sieve
