// Turns a failed CUDA or cuBLAS call into an Error that names the op, the call, the tensors and CUDA's own
// words.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"

namespace sieve::cuda {

[[noreturn]] inline void fail_call(const std::string& call, const std::string& why) {
    const std::string operands = current_operands();
    fail(current_op() + ": " + call + (operands.empty() ? "" : " " + operands) + " failed: " + why);
}

inline void check(cudaError_t status, const std::string& call) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // an error that is not sticky must not be found again by the next check
    fail_call(call, cudaGetErrorString(status));
}

cudaStream_t stream();  // the one that all work goes to

}  // namespace sieve::cuda
