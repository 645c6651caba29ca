// <cuda_runtime.h> of the emulation: the CUDA C++ dialect of the framework's kernels, for a host compiler.
// What it covers is listed in tests/cuda_emulation/README.md.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
// Blocks run one after another, so that one copy serves them all. The marker lets the engine find the
// variable (tests/cuda_emulation/symbols.cpp), to fill it with nonsense before each block.
#define SIEVE_SHARED_MARKER_NAMED(number) sieve_shared_marker_##number
#define SIEVE_SHARED_MARKER(number) SIEVE_SHARED_MARKER_NAMED(number)
#define __shared__                                                                \
    __attribute__((used)) static const char SIEVE_SHARED_MARKER(__COUNTER__) = 0; \
    static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

#include <assert.h>

#include "cuda_emulation/vector_types.h"
// The engine needs dim3 and cudaStream_t, the device functions need the engine.
#include "cuda_emulation/atomics.h"
#include "cuda_emulation/device_math.h"
#include "cuda_emulation/engine.h"
#include "cuda_emulation/runtime_api.h"
#include "cuda_emulation/warp.h"

inline constexpr int warpSize = 32;
// Set by the engine each time that a thread goes on.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
