// Private to this room. cuBLAS, loaded when a device first multiplies: linked in, it would cost every program
// 0.1 s and 200 MB before it has read its arguments, whether or not it uses a device.
#pragma once

#include <cublas_v2.h>

#ifndef SIEVE_CUDA_EMULATION
#include <dlfcn.h>
#endif

#include <string>

#include "framework/core/error.h"

namespace sieve::cuda {

// The functions that are used, under the names that the library exports.
struct Cublas {
    cublasStatus_t (*create)(cublasHandle_t*);
    cublasStatus_t (*set_stream)(cublasHandle_t, cudaStream_t);
    cublasStatus_t (*set_workspace)(cublasHandle_t, void*, size_t);
    const char* (*status_string)(cublasStatus_t);
    cublasStatus_t (*gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                              const void*, const void*, cudaDataType, int, const void*, cudaDataType, int,
                              const void*, void*, cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
    cublasStatus_t (*gemm_strided_batched_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                              int, const void*, const void*, cudaDataType, int, long long,
                                              const void*, cudaDataType, int, long long, const void*, void*,
                                              cudaDataType, int, long long, int, cublasComputeType_t,
                                              cublasGemmAlgo_t);
};

#ifdef SIEVE_CUDA_EMULATION
inline const Cublas& cublas() {
    static const Cublas functions{.create = cublasCreate,
                                  .set_stream = cublasSetStream,
                                  .set_workspace = cublasSetWorkspace,
                                  .status_string = cublasGetStatusString,
                                  .gemm_ex = cublasGemmEx,
                                  .gemm_strided_batched_ex = cublasGemmStridedBatchedEx};
    return functions;
}
#else
// Throws when the library is not there. It stays loaded.
inline const Cublas& cublas() {
    static const Cublas functions = [] {
        const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
        void* library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library)
            fail("cuBLAS cannot be loaded: " + std::string(::dlerror()) +
                 "; add the CUDA toolkit's library folder to LD_LIBRARY_PATH");
        const auto find = [&](auto& function, const char* symbol) {
            void* address = ::dlsym(library, symbol);
            if (!address) fail(name + " has no " + symbol + "; is it of another version?");
            function = reinterpret_cast<std::remove_reference_t<decltype(function)> >(address);
        };
        Cublas found{};
        find(found.create, "cublasCreate_v2");
        find(found.set_stream, "cublasSetStream_v2");
        find(found.set_workspace, "cublasSetWorkspace_v2");
        find(found.status_string, "cublasGetStatusString");
        find(found.gemm_ex, "cublasGemmEx");
        find(found.gemm_strided_batched_ex, "cublasGemmStridedBatchedEx");
        return found;
    }();
    return functions;
}
#endif

}  // namespace sieve::cuda
