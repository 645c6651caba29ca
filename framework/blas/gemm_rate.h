// How fast this machine multiplies matrices: the yardstick that measured steps are held against.
#pragma once

#include "framework/core/device.h"

namespace sieve {

namespace cpu {

// The best rate of gemm<float> over the main shapes of the medium preset, in GFLOP/s (2 m n k per product),
// with the configured number of threads. Takes about half a second.
double measured_sgemm_rate();

}  // namespace cpu

// The same on the given device; on a CUDA device by one large square product, at cuda::precision().
double measured_gemm_rate(Device device);

}  // namespace sieve
