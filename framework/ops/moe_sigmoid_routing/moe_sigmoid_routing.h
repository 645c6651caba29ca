// Top-k routing by sigmoid scores with a balancing bias (DeepSeek-V3, 2024, section 2.1.2; GLM-4.5). N
// tokens, E experts, K = top_k, c = scaling.
//
//   s[n,e]     = 1 / (1 + exp(-l[n,e]))
//   e[n,0..K)  = the K largest s[n,e] + b[e] of token n, by (value descending, index ascending)
//   w[n,j]     = c s[n,e[n,j]] / (sum_i s[n,e[n,i]] + tiny)           the bias only selects
//              = c s[n,e[n,j]]                                        not normalised
//   p[n,e]     = s[n,e] / (sum_i s[n,i] + tiny)
//   f[e]       = #{(n,j): e[n,j] = e} / (N K),    P[e] = mean_n p[n,e]
//   balancing  = E sum_e f[e] P[e]                                    1 when the load is even
//
//   dl[n,e[n,j]] = (1 - s) w[n,j] (dw[n,j] - sum_i w[n,i] dw[n,i] / c)
//                = (1 - s) w[n,j] dw[n,j]                             not normalised
//   dl[n,e]     += (1 - s) dbalancing E/N p[n,e] (f[e] - sum_i f[i] p[n,i])
//
// Groups (DeepSeek-V3's node-limited routing): the experts are `groups` groups of E / groups neighbours each. A
// group's score is the sum of its two largest s + b, and the K experts come from the top_groups groups of the
// largest scores, by (value descending, index ascending) again.
//
// f counts, it has no gradient. tiny = 1e-20, as in DeepSeek's code: a token whose scores are all 0 has
// weights 0. Saves w, e, s and f. P is summed in float64, in an order that does not depend on the number of
// threads. Without tokens the balancing loss is 0. A NaN logit gives NaN weights and valid, distinct experts.
#pragma once

#include "framework/ops/moe_routing/moe_routing.h"

namespace sieve {

struct SigmoidRouting {
    int64_t top_k;
    double scaling = 1;
    bool normalised = true;  // rows of the weights sum to `scaling`
    int64_t groups = 1, top_groups = 1;
};

// logits [N,E], bias [E], both float32 or both float64. Throws unless 1 <= top_k <= E and scaling > 0, when the
// experts make no such groups (of at least 2 unless there is one group, with top_k experts in the best ones),
// when shapes, dtypes or devices differ, and when the bias wants a gradient: the load moves it, not the loss.
Routing moe_sigmoid_routing(const Tensor& logits, const Tensor& bias, const SigmoidRouting& config);

// After a training step: moves the bias of each expert by `speed`, down when it was chosen more often than
// the mean, up when less often. `offsets` are those of the step's DispatchPlan. On a CUDA device nothing
// moves when `guard`, a float64 scalar there, is given and not finite. Records nothing.
void move_balancing_bias(const Tensor& bias, const Tensor& offsets, double speed, const Tensor& guard = {});

}  // namespace sieve
