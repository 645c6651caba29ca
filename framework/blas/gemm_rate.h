// The yardstick of the benchmarks: how fast this machine multiplies float32 matrices.
#pragma once

namespace sieve {

// GFLOP/s of gemm<float> at its best over a few large shapes, on thread_count() threads. Takes about half a second.
double measured_sgemm_rate();

}  // namespace sieve
