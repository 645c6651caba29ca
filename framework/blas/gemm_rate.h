// How fast this machine multiplies matrices: the yardstick that the bench tool holds other numbers against.
#pragma once

namespace sieve::cpu {

// The best rate of gemm<float> over the main shapes of the medium preset, in GFLOP/s (2 m n k per product),
// with the configured number of threads. Takes about half a second.
double measured_sgemm_rate();

}  // namespace sieve::cpu
