// Gradient clipping by the global norm (Pascanu et al. 2013), as torch.nn.utils.clip_grad_norm_ computes it.
//
//   norm = sqrt(sum of all squares)          g <- g min(1, max_norm / (norm + 1e-6))
#pragma once

#include <vector>

#include "framework/core/named_tensor.h"

namespace sieve {

// Returns the norm before clipping: a float64 scalar where the parameters are (on the CPU when there are
// none); nothing waits for a device. Parameters without a gradient are skipped. Squares are summed in float64
// and in a fixed order. When the norm is not finite no gradient is touched: the caller decides what to do.
// Throws unless all gradients have one dtype and lie on one device.
Tensor clip_gradients(const NamedTensors& parameters, double max_norm);

}  // namespace sieve
