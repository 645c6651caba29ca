// One linear layer per expert, over rows that moe_dispatch sorted by expert. X_e, Y_e are the rows
// [offsets[e], offsets[e+1]) of x, y.
//
//   Y_e  = X_e W_e^T            [M_e,out]
//   dX_e = dY_e W_e             [M_e,in]
//   dW_e = dY_e^T X_e           [out,in]
//
// Saves x and the weights. The cost is that of the rows there are: 2 M in out operations, however many
// experts exist.
//
// An expert that received no row gets a gradient of zeros, as if it had been called on an empty batch. The
// original PyTorch model skipped the call, so that such an expert had no gradient in that step, and its
// optimiser state and weights stood still; with zeros the momentum keeps decaying and still moves the weight.
#pragma once

#include <vector>

#include "framework/ops/moe_dispatch/moe_dispatch.h"

namespace sieve {

// x [M,in] with M = plan.slots(), weights: one [out,in] per expert, all float32 or all float64 -> [M,out].
Tensor grouped_linear(const Tensor& x, const DispatchPlan& plan, const std::vector<Tensor>& weights);

}  // namespace sieve
