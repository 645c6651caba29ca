// How fast this machine multiplies matrices: the yardstick that measured steps are held against.
#pragma once

#include <string>
#include <vector>

#include "framework/core/device.h"

namespace sieve {

namespace cpu {

// The best rate of gemm<float> at precision() over the main shapes of the medium preset, in GFLOP/s (2 m n k per
// product), with the configured number of threads. Takes about half a second.
double measured_sgemm_rate();

struct KernelRate {
    std::string name;  // "AVX-512, float32"
    double gflop_per_second;
};
// What each set of kernels that runs here computes on one thread, tiles of C by operands in the L1 cache: the
// instruction's rate, without packing and without memory. The best of about 20 ms each.
std::vector<KernelRate> kernel_rates();

}  // namespace cpu

// The same on the given device; on a CUDA device by one large square product, at precision() (core/precision.h).
double measured_gemm_rate(Device device);

}  // namespace sieve
