// y[i] = x[i] + std * normal(key, i), the i-th standard normal number of the stream.     dx = dy
#pragma once

#include "framework/core/rng.h"
#include "framework/core/tensor.h"

namespace sieve {

// std >= 0; 0 is the identity.
Tensor add_normal_noise(const Tensor& x, double std, RngKey key);

}  // namespace sieve
