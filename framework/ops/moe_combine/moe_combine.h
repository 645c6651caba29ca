// Brings the experts' outputs back to their tokens and mixes them. position is the plan's (moe_dispatch.h).
//
//   out[n]             = sum_j w[n,j] y[position[n K + j]]      added in the order j = 0, 1, ..., K-1
//
//   dy[position[nK+j]] = w[n,j] dout[n]
//   dw[n,j]            = sum_i dout[n,i] y[position[n K + j], i]
//
// Saves y, w and the positions. Both gradients come from one pass over dout and y.
#pragma once

#include "framework/ops/moe_dispatch/moe_dispatch.h"

namespace sieve {

// y [N*K,d] sorted by expert, weights [N,K], both float32 or both float64 -> [N,d].
Tensor moe_combine(const Tensor& y, const Tensor& weights, const DispatchPlan& plan);

}  // namespace sieve
