// The execution model: every thread of a block is a fiber that runs until a barrier, a warp collective or its
// end. Blocks run one after another. The order of blocks, warps and lanes is shuffled by a seed, so that code
// that works only in one order fails.
//
// Errors (a std::runtime_error thrown by launch(), or by the call that ran a deferred launch): barrier
// divergence, warp collectives that can never complete, shuffles from absent lanes, limits of a launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

#include "cuda_emulation/runtime_api.h"
#include "cuda_emulation/vector_types.h"

namespace sieve::cuda_emulation {

// Runs `thread_body` once for each thread of the grid, in the stream's order. `kernel` is the kernel's
// address, the one given to cudaFuncSetAttribute; without it no more than 48 KiB of dynamic shared memory is
// allowed.
void launch(std::function<void()> thread_body, dim3 grid, dim3 block, size_t shared_bytes, const char* name,
            cudaStream_t stream = nullptr, const void* kernel = nullptr);

// The launch's dynamic shared memory: 128-byte aligned, filled with 0xFF bytes (NaN) before each block.
void* dynamic_shared_memory();

// 0: everything in order. The start value is the environment variable SIEVE_CUDA_EMULATION_SEED, or 0.
void set_seed(uint64_t seed);

// Deferred: streams run only when the host waits for them, so that a missing wait shows. The start value is
// true when the environment variable SIEVE_CUDA_EMULATION_DEFERRED is 1.
void set_deferred(bool deferred);

// Bytes of emulated device memory; only while nothing is allocated. The start value is 1 GiB, or the
// environment variable SIEVE_CUDA_EMULATION_MEMORY in MiB.
void set_memory_size(size_t bytes);

// ---- for the headers beside this one ----------------------------------------------------------------------

// How many of the `arrived` threads brought a non-zero predicate to a barrier.
struct Votes {
    int holding, arrived;
};
Votes block_barrier(const char* name, bool predicate, const std::source_location& where);

// Waits until all living lanes of `mask` have called this with the same arguments (but for `operands`), and
// then calls resolve(lanes, operands of each lane) once. `resolve` writes each lane's result into its
// operands.
using Resolve = void (*)(uint32_t lanes, void* const (&operands)[32]);
void warp_collective(const char* name, uint32_t mask, void* operands, Resolve resolve,
                     const std::source_location& where);

unsigned int lane_id();

// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] void thread_error(const std::string& what, const std::source_location& where);

}  // namespace sieve::cuda_emulation
