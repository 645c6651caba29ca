// How kernels are launched: through one function, so that the same sources run on a GPU and, compiled for the
// host, on the emulated device of tests/cuda_emulation.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "framework/core/cuda/check.cuh"

#ifdef SIEVE_CUDA_EMULATION
#include "cuda_emulation/engine.h"
#endif

namespace sieve::cuda {

struct Grid {
    dim3 blocks, threads;
    size_t shared_bytes = 0;  // dynamic shared memory
};

// The dynamic shared memory of the block, 128-byte aligned. Its contents are undefined until written.
template <class T>
__device__ inline T* dynamic_shared() {
#ifdef SIEVE_CUDA_EMULATION
    return reinterpret_cast<T*>(cuda_emulation::dynamic_shared_memory());
#else
    extern __shared__ __align__(128) unsigned char sieve_dynamic_shared[];
    return reinterpret_cast<T*>(sieve_dynamic_shared);
#endif
}

inline std::string describe(const Grid& g) {
    const auto text = [](dim3 d) {
        return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
    };
    return "launch of " + text(g.blocks) + " blocks of " + text(g.threads) + " threads with " +
           std::to_string(g.shared_bytes) + " bytes of shared memory";
}

// Gives the launch to the stream and returns. An empty grid launches nothing. Throws when the launch itself
// is impossible; what a kernel does wrong while it runs is reported by the next wait.
template <class... Params, class... Args>
void launch_kernel(void (*kernel)(Params...), const Grid& grid, Args&&... args) {
    if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
    constexpr size_t without_asking = 48 << 10;  // what a kernel may use before it asks for more
    if (grid.shared_bytes > without_asking)
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(grid.shared_bytes)),
              describe(grid));
#ifdef SIEVE_CUDA_EMULATION
    cuda_emulation::launch([kernel, ... values = Params(std::forward<Args>(args))] { kernel(values...); },
                           grid.blocks, grid.threads, grid.shared_bytes, current_op().c_str(), stream(),
                           reinterpret_cast<const void*>(kernel));
    const cudaError_t status = cudaGetLastError();
#else
    const cudaLaunchConfig_t config{.gridDim = grid.blocks,
                                    .blockDim = grid.threads,
                                    .dynamicSmemBytes = grid.shared_bytes,
                                    .stream = stream()};
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...);
#endif
    if (status != cudaSuccess) check(status, describe(grid));
}

inline unsigned blocks_for(int64_t count, int64_t per_block) {
    return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace sieve::cuda
