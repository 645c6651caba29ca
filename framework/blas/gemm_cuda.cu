// Matrix products by cuBLAS. It stores by columns, so the row-major C = op(A) op(B) is asked for as C^T =
// op(B)^T op(A)^T, which needs no data to move.
#include <algorithm>
#include <limits>

#include "framework/blas/cublas.cuh"
#include "framework/blas/gemm.h"
#include "framework/core/cuda/check.cuh"
#include "framework/core/precision.h"

namespace sieve::cuda {
namespace {

void check_blas(cublasStatus_t status, const std::string& call) {
    if (status != CUBLAS_STATUS_SUCCESS) fail_call(call, cublas().status_string(status));
}

// The workspace is given, because cuBLAS may not allocate one while a graph is recorded; and one workspace in
// one stream makes its results the same bits from run to run.
cublasHandle_t handle() {
    static cublasHandle_t the_handle = [] {
        constexpr int64_t workspace_bytes = 32 << 20;  // what NVIDIA recommends for Hopper
        cublasHandle_t h = nullptr;
        check_blas(cublas().create(&h), "cublasCreate");
        check_blas(cublas().set_stream(h, stream()), "cublasSetStream");
        void* workspace = device_malloc(workspace_bytes);
        if (!workspace)
            throw Error(ErrorKind::out_of_memory,
                        "out of memory: the device has no 32 MiB left for the workspace of cuBLAS");
        check_blas(cublas().set_workspace(h, workspace, workspace_bytes), "cublasSetWorkspace");
        return h;
    }();
    return the_handle;
}

template <class T>
constexpr cudaDataType data_type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;

template <class T>
cublasComputeType_t compute_type() {
    if (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
    switch (precision()) {
        case Precision::fp32:
            return CUBLAS_COMPUTE_32F;
        case Precision::tf32:
            return CUBLAS_COMPUTE_32F_FAST_TF32;
        case Precision::bf16:
            return CUBLAS_COMPUTE_32F_FAST_16BF;
    }
    return CUBLAS_COMPUTE_32F;
}

template <class T>
std::string describe(const Gemm<T>& g) {
    return "matrix product [" + std::to_string(g.m) + "," + std::to_string(g.k) + "] x [" +
           std::to_string(g.k) + "," + std::to_string(g.n) + "]";
}

template <class T>
void check_sizes(const Gemm<T>& g) {
    constexpr int64_t most = std::numeric_limits<int>::max();
    if (g.m > most || g.n > most || g.k > most || g.lda > most || g.ldb > most || g.ldc > most)
        fail_call(describe(g), "a size does not fit in 32 bits");
}

// cuBLAS wants at least 1, even of a matrix without columns.
int leading(int64_t stride) {
    return static_cast<int>(std::max<int64_t>(1, stride));
}

cublasOperation_t operation(bool transpose) {
    return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

}  // namespace

template <class T>
void gemm(const Gemm<T>& g) {
    if (g.m == 0 || g.n == 0) return;
    check_sizes(g);
    check_blas(cublas().gemm_ex(handle(), operation(g.transpose_b), operation(g.transpose_a),
                                static_cast<int>(g.n), static_cast<int>(g.m), static_cast<int>(g.k), &g.alpha,
                                g.b, data_type<T>, leading(g.ldb), g.a, data_type<T>, leading(g.lda), &g.beta,
                                g.c, data_type<T>, leading(g.ldc), compute_type<T>(), CUBLAS_GEMM_DEFAULT),
               describe(g));
}

template <class T>
void gemm_batched(const Gemm<T>& g, const GemmBatch& batch) {
    if (g.m == 0 || g.n == 0 || batch.count == 0) return;
    check_sizes(g);
    check_blas(cublas().gemm_strided_batched_ex(
                   handle(), operation(g.transpose_b), operation(g.transpose_a), static_cast<int>(g.n),
                   static_cast<int>(g.m), static_cast<int>(g.k), &g.alpha, g.b, data_type<T>, leading(g.ldb),
                   batch.stride_b, g.a, data_type<T>, leading(g.lda), batch.stride_a, &g.beta, g.c,
                   data_type<T>, leading(g.ldc), batch.stride_c, static_cast<int>(batch.count),
                   compute_type<T>(), CUBLAS_GEMM_DEFAULT),
               std::to_string(batch.count) + " times " + describe(g));
}

template void gemm(const Gemm<float>&);
template void gemm(const Gemm<double>&);
template void gemm_batched(const Gemm<float>&, const GemmBatch&);
template void gemm_batched(const Gemm<double>&, const GemmBatch&);

}  // namespace sieve::cuda
