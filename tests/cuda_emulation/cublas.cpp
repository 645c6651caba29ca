#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>
#include <vector>

#include "cublas_v2.h"
#include "cuda_bf16.h"
#include "cuda_emulation/mma_emulated.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/stream.h"

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t mode = CUBLAS_DEFAULT_MATH;
};

namespace {

using namespace sieve::cuda_emulation;

struct Matrix {
    const void* data;
    cudaDataType type;
    int rows, columns;  // as stored
    int leading;
    long long stride;
};

// What happens to float operands before they are multiplied.
enum class Rounding { none, tf32, bf16 };

float rounded(float value, Rounding rounding) {
    if (rounding == Rounding::tf32) return std::bit_cast<float>(sieve::cuda::to_tf32(value));
    if (rounding == Rounding::bf16) return __bfloat162float(__float2bfloat16_rn(value));
    return value;
}

Rounding rounding_of(cudaDataType type, cublasComputeType_t compute, cublasMath_t mode) {
    if (type != CUDA_R_32F) return Rounding::none;
    if (compute == CUBLAS_COMPUTE_32F_FAST_16BF) return Rounding::bf16;
    const bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32 || mode == CUBLAS_TF32_TENSOR_OP_MATH;
    return tf32 ? Rounding::tf32 : Rounding::none;
}

struct Product {
    int m, n, k, batch;
    double alpha, beta;
    bool transpose_a, transpose_b;
    Rounding rounding;
    Matrix a, b, c;
};

size_t bytes_of(cudaDataType type) {
    return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

double read(const Matrix& matrix, long long index) {
    if (matrix.type == CUDA_R_64F) return static_cast<const double*>(matrix.data)[index];
    if (matrix.type == CUDA_R_32F) return static_cast<const float*>(matrix.data)[index];
    return __bfloat162float(static_cast<const __nv_bfloat16*>(matrix.data)[index]);
}

void write(const Matrix& matrix, long long index, double value) {
    void* data = const_cast<void*>(matrix.data);
    if (matrix.type == CUDA_R_64F)
        static_cast<double*>(data)[index] = value;
    else if (matrix.type == CUDA_R_32F)
        static_cast<float*>(data)[index] = static_cast<float>(value);
    else
        static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(static_cast<float>(value));
}

void need_allocated(const Matrix& matrix, int batch, const char* name) {
    if (matrix.rows == 0 || matrix.columns == 0) return;
    const long long elements = matrix.stride * (batch - 1) +
                               static_cast<long long>(matrix.leading) * (matrix.columns - 1) + matrix.rows;
    if (!is_allocated(matrix.data, elements * bytes_of(matrix.type)))
        throw std::runtime_error(std::string("cublas: matrix ") + name + " reaches outside of an allocation");
}

// op(matrix), packed column by column.
template <class T>
std::vector<T> pack(const Matrix& matrix, int item, bool transpose, Rounding rounding) {
    std::vector<T> packed(static_cast<size_t>(matrix.rows) * matrix.columns);
    for (int column = 0; column < matrix.columns; ++column)
        for (int row = 0; row < matrix.rows; ++row) {
            double value =
                read(matrix, item * matrix.stride + static_cast<long long>(column) * matrix.leading + row);
            if (rounding != Rounding::none) value = rounded(static_cast<float>(value), rounding);
            const size_t to = transpose ? static_cast<size_t>(row) * matrix.columns + column
                                        : static_cast<size_t>(column) * matrix.rows + row;
            packed[to] = static_cast<T>(value);
        }
    return packed;
}

// One column of the product; the address sanitizer has nothing to find here and would take most of the time.
template <class T>
__attribute__((no_sanitize("address", "undefined"))) void multiply(const T* a, const T* b, T* column, int m,
                                                                   int k) {
    std::fill_n(column, m, T(0));
    for (int i = 0; i < k; ++i)
        for (int row = 0; row < m; ++row) column[row] += a[static_cast<size_t>(i) * m + row] * b[i];
}

// T is the type of the sums: float or double.
template <class T>
void run(const Product& p) {
    need_allocated(p.a, p.batch, "A");
    need_allocated(p.b, p.batch, "B");
    need_allocated(p.c, p.batch, "C");
    std::vector<T> column(p.m);
    for (int item = 0; item < p.batch; ++item) {
        const std::vector<T> a = pack<T>(p.a, item, p.transpose_a, p.rounding);
        const std::vector<T> b = pack<T>(p.b, item, p.transpose_b, p.rounding);
        for (int j = 0; j < p.n; ++j) {
            multiply(a.data(), b.data() + static_cast<size_t>(j) * p.k, column.data(), p.m, p.k);
            for (int i = 0; i < p.m; ++i) {
                const long long index = item * p.c.stride + static_cast<long long>(j) * p.c.leading + i;
                T value = static_cast<T>(p.alpha) * column[i];
                if (p.beta != 0) value += static_cast<T>(p.beta) * static_cast<T>(read(p.c, index));
                write(p.c, index, value);
            }
        }
    }
}

bool types_are_supported(cudaDataType a, cudaDataType b, cudaDataType c, cublasComputeType_t compute) {
    if (a != b) return false;
    switch (compute) {
        case CUBLAS_COMPUTE_64F:
            return a == CUDA_R_64F && c == CUDA_R_64F;
        case CUBLAS_COMPUTE_32F_FAST_16BF:
        case CUBLAS_COMPUTE_32F_FAST_TF32:
            return a == CUDA_R_32F && c == CUDA_R_32F;
        case CUBLAS_COMPUTE_32F:
            return (a == CUDA_R_32F && c == CUDA_R_32F) ||
                   (a == CUDA_R_16BF && (c == CUDA_R_32F || c == CUDA_R_16BF));
    }
    return false;
}

}  // namespace

const char* cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS:
            return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED:
            return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED:
            return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE:
            return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_EXECUTION_FAILED:
            return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_NOT_SUPPORTED:
            return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown status";
}

const char* cublasGetStatusString(cublasStatus_t status) {
    return cublasGetStatusName(status);
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    if (forbidden_by_capture()) return CUBLAS_STATUS_ALLOC_FAILED;  // the real one allocates its workspace
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    run_everything_quietly();  // it waits for the device, as the real one does
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    const bool usable = is_allocated(workspace, bytes) && reinterpret_cast<uintptr_t>(workspace) % 256 == 0;
    return bytes == 0 || usable ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a,
                                          cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                          const void* a, cudaDataType type_a, int lda, long long stride_a,
                                          const void* b, cudaDataType type_b, int ldb, long long stride_b,
                                          const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!types_are_supported(type_a, type_b, type_c, compute)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool transpose_a = op_a != CUBLAS_OP_N, transpose_b = op_b != CUBLAS_OP_N;
    const int rows_a = transpose_a ? k : m, rows_b = transpose_b ? n : k;
    if (m < 0 || n < 0 || k < 0 || batch < 0 || !alpha || !beta || lda < std::max(1, rows_a) ||
        ldb < std::max(1, rows_b) || ldc < std::max(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;

    const bool wide = compute == CUBLAS_COMPUTE_64F;
    auto scalar = [&](const void* x) {
        return wide ? *static_cast<const double*>(x) : *static_cast<const float*>(x);
    };
    const Product product{
        .m = m,
        .n = n,
        .k = k,
        .batch = batch,
        .alpha = scalar(alpha),
        .beta = scalar(beta),
        .transpose_a = transpose_a,
        .transpose_b = transpose_b,
        .rounding = rounding_of(type_a, compute, handle->mode),
        .a = {a, type_a, rows_a, transpose_a ? m : k, lda, stride_a},
        .b = {b, type_b, rows_b, transpose_b ? k : n, ldb, stride_b},
        .c = {c, type_c, m, n, ldc, stride_c},
    };
    const cudaError_t error = enqueue(
        handle->stream, {"cublas", [product, wide] { wide ? run<double>(product) : run<float>(product); }});
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda,
                            const void* b, cudaDataType type_b, int ldb, const void* beta, void* c,
                            cudaDataType type_c, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb,
                                      0, beta, c, type_c, ldc, 0, 1, compute, algorithm);
}
