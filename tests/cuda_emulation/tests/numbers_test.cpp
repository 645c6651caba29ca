// Arithmetic: device functions, bf16, fp8, tensor-core fragments, asynchronous copies, cuBLAS.
#include <bit>
#include <cmath>
#include <random>

#include "cublas_v2.h"
#include "cuda_fp8.h"
#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/mma.cuh"
#include "tests/cuda_emulation/tests/sample.h"
#include "tests/cuda_emulation/tests/testing.h"

using namespace sieve;
using namespace sieve::emulation_testing;

namespace {

std::mt19937 generator(7);

template <class T>
std::vector<T> random_values(int count) {
    std::normal_distribution<double> normal;
    std::vector<T> values(count);
    for (T& value : values) value = static_cast<T>(normal(generator));
    return values;
}

float as_float(uint32_t bits) {
    return std::bit_cast<float>(bits);
}
uint32_t as_bits(float x) {
    return std::bit_cast<uint32_t>(x);
}

std::vector<__nv_bfloat16> to_bf16(const std::vector<float>& x) {
    std::vector<__nv_bfloat16> y;
    for (float value : x) y.push_back(__float2bfloat16(value));
    return y;
}

__global__ void forgotten_wait_kernel(const float4* x, float* y) {
    float* tile = cuda::dynamic_shared<float>();
    cuda::cp_async_16(tile, x);
    cuda::cp_async_commit();
    y[0] = tile[0];
}

__global__ void uncommitted_kernel(const float4* x, float* y) {
    float* tile = cuda::dynamic_shared<float>();
    cuda::cp_async_16(tile, x);
    cuda::cp_async_wait<0>();
    y[0] = tile[0];
}

// 8 products of 1 with 1, but for bits that tf32 does not have.
__global__ void low_bits_kernel(float* y) {
    const uint32_t one = __float_as_uint(1.0f) | 0x1fffu;
    const uint32_t a[4] = {one, one, one, one}, b[2] = {one, one};
    float d[4] = {};
    cuda::mma_m16n8k8_tf32(d, a, b);
    y[threadIdx.x] = d[threadIdx.x % 4];
}

// The target, then the source of a copy, is wrong.
__global__ void misplaced_copy_kernel(const float4* x, int shift) {
    cuda::cp_async_16(cuda::dynamic_shared<float>() + shift, x);
}
__global__ void local_target_kernel(const float4* x) {
    alignas(16) float local[4];
    cuda::cp_async_16(local, x);
}
__global__ void local_source_kernel() {
    const float4 local = make_float4(1, 2, 3, 4);
    cuda::cp_async_16(cuda::dynamic_shared<float>(), &local);
}
__global__ void global_rows_kernel(const uint16_t* x) {
    uint32_t r[4];
    cuda::ldmatrix_x4(r, x);
}

}  // namespace

TEST_CASE("emulation: device functions") {
    DeviceArray<float> x(std::vector<float>{-0.0f});
    DeviceArray<sample::Numbers> y(1);
    launch(sample::number_kernel, {.blocks = 1, .threads = 1}, y.data(), x.data());
    const sample::Numbers n = y.host()[0];
    CHECK(n.ones == 8);
    CHECK(n.leading == 8);
    CHECK(n.first == 5);
    CHECK(n.reversed == 0x80000000u);
    CHECK(n.high == -2);
    CHECK(n.high_unsigned == 3);
    CHECK(n.rounded == 2);
    CHECK(n.saturated == 2147483647);
    CHECK(n.bits == 0x80000000u);
    CHECK(n.mantissa == 0x400000);
    CHECK(n.double_bits == 0x4000000000000000);
    CHECK(n.back == 0.1);
    CHECK(n.root == 0.5f);
    CHECK(n.exponential == 2.0f);
    CHECK(n.fused == 0x1p-11f + 0x1p-24f);
    CHECK(n.smaller == -3.0f);
    CHECK(n.larger == 2.0f);
    CHECK(n.smaller_integer == 3);
    CHECK(n.vector.w == 4);
    CHECK(n.pair.y == 6);
    CHECK(__ffs(0) == 0);
    CHECK(__clz(0) == 32);
    CHECK(max(NAN, 1.0f) == 1.0f);
    CHECK(__float2int_rz(NAN) == 0);
}

TEST_CASE("emulation: bf16 rounds to nearest, ties to even") {
    int wrong = 0;
    for (uint32_t bits = 0; bits < 65536;
         ++bits) {  // every bf16 comes back; halfway up goes to the even neighbour
        const float exact = as_float(bits << 16);
        if (std::isnan(exact)) {
            wrong += __bfloat16_as_ushort(__float2bfloat16(exact)) != 0x7fff;
            continue;
        }
        wrong += __bfloat16_as_ushort(__float2bfloat16(exact)) != bits;
        if (std::isinf(exact)) continue;
        wrong += __bfloat16_as_ushort(__float2bfloat16(as_float(bits << 16 | 0x7fff))) != bits;
        wrong += __bfloat16_as_ushort(__float2bfloat16(as_float(bits << 16 | 0x8000))) != bits + bits % 2;
        wrong += __bfloat16_as_ushort(__float2bfloat16(as_float(bits << 16 | 0x8001))) != bits + 1;
    }
    CHECK(wrong == 0);
    CHECK(__bfloat162float(__float2bfloat16(3.4e38f)) == INFINITY);
    const __nv_bfloat162 pair = __floats2bfloat162_rn(1.0f, -2.0f);
    CHECK(std::bit_cast<uint32_t>(pair) == 0xc0003f80u);  // the first one in the low half
    CHECK(__low2float(pair) == 1.0f);
    CHECK(__high2float(pair) == -2.0f);
}

TEST_CASE("emulation: fp8 E4M3, all 256 values and the roundings between them") {
    auto value = [](int bits) {
        __nv_fp8_e4m3 x;
        x.__x = static_cast<__nv_fp8_storage_t>(bits);
        return static_cast<float>(x);
    };
    auto code = [](float x, __nv_saturation_t saturate = __NV_SATFINITE) {
        return static_cast<int>(__nv_cvt_float_to_fp8(x, saturate, __NV_E4M3));
    };
    CHECK(value(0x01) == 0x1p-9f);
    CHECK(value(0x08) == 0x1p-6f);
    CHECK(value(0x38) == 1.0f);
    CHECK(value(0x7e) == 448.0f);
    CHECK(value(0xb9) == -1.125f);
    for (int bits = 0; bits < 256; ++bits) {
        CAPTURE(bits);
        if ((bits & 0x7f) == 0x7f) {
            CHECK(std::isnan(value(bits)));
            continue;
        }
        CHECK(code(value(bits)) == bits);
        if ((bits & 0x7f) == 0x7e) continue;
        const float middle = (value(bits) + value(bits + 1)) / 2;
        CHECK(code(middle) == bits + bits % 2);
        CHECK(code(std::nextafter(middle, value(bits))) == bits);
        CHECK(code(std::nextafter(middle, value(bits + 1))) == bits + 1);
    }
    CHECK(code(464.0f, __NV_NOSAT) == 0x7e);
    CHECK(code(std::nextafter(464.0f, 500.0f), __NV_NOSAT) == 0x7f);
    CHECK(code(1e30f) == 0x7e);
    CHECK(code(-INFINITY) == 0xfe);
    CHECK(code(-INFINITY, __NV_NOSAT) == 0xff);
    CHECK(code(NAN) == 0x7f);
    CHECK(code(-NAN) == 0x7f);
}

TEST_CASE("emulation: conversions in a kernel") {
    const std::vector<float> x{1.0f, 1.001f, 0.3f, -500.0f};
    DeviceArray<float> input(x), bf16(4), fp8(4);
    launch(sample::convert_kernel, {.blocks = 1, .threads = 32}, input.data(), bf16.data(), fp8.data(), 4);
    CHECK(bf16.host() == std::vector<float>{1.0f, 1.0f, 0.30078125f, -500.0f});
    CHECK(fp8.host() == std::vector<float>{1.0f, 1.0f, 0.3125f, -448.0f});
}

TEST_CASE("emulation: tensor-core products") {
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const Seed order(seed);
        const std::vector<float> a = random_values<float>(16 * 16), b = random_values<float>(16 * 8);
        const std::vector<__nv_bfloat16> a16 = to_bf16(a), b16 = to_bf16(b);
        DeviceArray<__nv_bfloat16> a_device(a16), b_device(b16);
        DeviceArray<float> d(16 * 8);
        launch(sample::mma_bf16_kernel, {.blocks = 1, .threads = 32}, a_device.data(), b_device.data(),
               d.data());
        const std::vector<float> y = d.host();
        for (int i = 0; i < 16; ++i)
            for (int j = 0; j < 8; ++j) {
                double want = 0;
                for (int k = 0; k < 16; ++k)
                    want += double(__bfloat162float(a16[i * 16 + k])) * __bfloat162float(b16[k * 8 + j]);
                CHECK(y[i * 8 + j] == doctest::Approx(want).epsilon(1e-5));
            }
    }
    const std::vector<float> a = random_values<float>(16 * 8), b = random_values<float>(8 * 8);
    const std::vector<float> before = random_values<float>(16 * 8);
    DeviceArray<float> a_device(a), b_device(b), d(before);
    launch(sample::mma_tf32_kernel, {.blocks = 1, .threads = 32}, a_device.data(), b_device.data(), d.data());
    const std::vector<float> y = d.host();
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 8; ++j) {
            double want = before[i * 8 + j];
            for (int k = 0; k < 8; ++k)
                want += double(as_float(cuda::to_tf32(a[i * 8 + k]))) * as_float(cuda::to_tf32(b[k * 8 + j]));
            CHECK(y[i * 8 + j] == doctest::Approx(want).epsilon(1e-5));
        }
}

TEST_CASE("emulation: tf32 rounds to nearest, ties away from zero, and products ignore the low bits") {
    CHECK(cuda::to_tf32(as_float(0x3f800fff)) == 0x3f800000u);
    CHECK(cuda::to_tf32(as_float(0x3f801000)) == 0x3f802000u);
    CHECK(cuda::to_tf32(as_float(0xbf801000)) == 0xbf802000u);
    CHECK(cuda::to_tf32(INFINITY) == as_bits(INFINITY));
    CHECK(std::isnan(as_float(cuda::to_tf32(NAN))));
    DeviceArray<float> y(32);
    launch(low_bits_kernel, {.blocks = 1, .threads = 32}, y.data());
    CHECK(y.host() == std::vector<float>(32, 8.0f));
}

TEST_CASE("emulation: ldmatrix deals out rows, or columns") {
    std::vector<uint16_t> x(4 * 64);
    for (int i = 0; i < 4 * 64; ++i) x[i] = static_cast<uint16_t>(i * 7);
    DeviceArray<uint16_t> input(x);
    for (bool transposed : {false, true}) {
        DeviceArray<uint32_t> y(6 * 32);
        const Grid grid{.blocks = 1, .threads = 32, .shared_bytes = 4 * 64 * 2};
        if (transposed)
            launch(sample::ldmatrix_kernel<true>, grid, input.data(), y.data());
        else
            launch(sample::ldmatrix_kernel<false>, grid, input.data(), y.data());
        const std::vector<uint32_t> registers = y.host();
        for (int i = 0; i < 6; ++i)
            for (int lane = 0; lane < 32; ++lane) {
                const int row = lane / 4, column = 2 * (lane % 4), matrix = i % 4 * 64;
                const uint32_t low = transposed ? x[matrix + column * 8 + row] : x[matrix + row * 8 + column];
                const uint32_t high =
                    transposed ? x[matrix + (column + 1) * 8 + row] : x[matrix + row * 8 + column + 1];
                CHECK(registers[i * 32 + lane] == (low | high << 16));
            }
    }
    const std::string error =
        error_of([&] { launch(global_rows_kernel, {.blocks = 1, .threads = 32}, input.data()); });
    CHECK(contains(error, "ldmatrix: a row that is not in shared memory"));
}

TEST_CASE("emulation: asynchronous copies arrive at the wait, not before") {
    const std::vector<float4> x{make_float4(1, 2, 3, 4), make_float4(5, 6, 7, 8)};
    DeviceArray<float4> input(x);
    DeviceArray<float> y(8);
    const Grid grid{.blocks = 1, .threads = 1, .shared_bytes = 32};
    launch(sample::cp_async_kernel<0>, grid, input.data(), y.data(), 16);
    CHECK(y.host() == std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
    launch(sample::cp_async_kernel<0>, grid, input.data(), y.data(), 8);
    CHECK(y.host() == std::vector<float>{1, 2, 3, 4, 5, 6, 0, 0});
    launch(sample::cp_async_kernel<1>, grid, input.data(), y.data(), 16);
    CHECK(y.host()[3] == 4);
    for (int i = 4; i < 8; ++i) CHECK(std::isnan(y.host()[i]));
    launch(forgotten_wait_kernel, grid, input.data(), y.data());
    CHECK(std::isnan(y.host()[0]));
    launch(uncommitted_kernel, grid, input.data(), y.data());
    CHECK(std::isnan(y.host()[0]));

    CHECK(contains(error_of([&] { launch(misplaced_copy_kernel, grid, input.data(), 1); }),
                   "no multiple of 16"));
    CHECK(
        contains(error_of([&] { launch(local_target_kernel, grid, input.data()); }), "not in shared memory"));
    CHECK(contains(error_of([&] { launch(local_source_kernel, grid); }), "not in device memory"));
}

namespace {

struct Gemm {
    cudaDataType in, out;
    cublasComputeType_t compute;
};

// Random matrices, all transposes, two batches, a C whose padding must stay.
template <class In, class Out, class Scalar>
void check_gemm(cublasHandle_t handle, const Gemm& types, double tolerance) {
    const int m = 5, n = 7, k = 11, batch = 2;
    for (cublasOperation_t op_a : {CUBLAS_OP_N, CUBLAS_OP_T})
        for (cublasOperation_t op_b : {CUBLAS_OP_N, CUBLAS_OP_T}) {
            const bool ta = op_a == CUBLAS_OP_T, tb = op_b == CUBLAS_OP_T;
            const int lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ldc = m + 3;
            const int size_a = lda * (ta ? m : k), size_b = ldb * (tb ? k : n), size_c = ldc * n;
            std::vector<In> a, b;
            std::vector<Out> c;
            for (float x : random_values<float>(batch * size_a)) a.push_back(static_cast<In>(x));
            for (float x : random_values<float>(batch * size_b)) b.push_back(static_cast<In>(x));
            for (float x : random_values<float>(batch * size_c)) c.push_back(static_cast<Out>(x));
            DeviceArray<In> a_device(a), b_device(b);
            DeviceArray<Out> c_device(c);
            const Scalar alpha = Scalar(1.5), beta = Scalar(-0.5);
            REQUIRE(cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, &alpha, a_device.data(), types.in,
                                               lda, size_a, b_device.data(), types.in, ldb, size_b, &beta,
                                               c_device.data(), types.out, ldc, size_c, batch, types.compute,
                                               CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
            const std::vector<Out> y = c_device.host();
            for (int item = 0; item < batch; ++item)
                for (int j = 0; j < n; ++j)
                    for (int i = 0; i < ldc; ++i) {
                        const int at = item * size_c + i + j * ldc;
                        double want = static_cast<double>(static_cast<Scalar>(c[at]));
                        if (i < m) {
                            want *= -0.5;
                            for (int l = 0; l < k; ++l) {
                                const In& left = a[item * size_a + (ta ? l + i * lda : i + l * lda)];
                                const In& right = b[item * size_b + (tb ? j + l * ldb : l + j * ldb)];
                                want += 1.5 * static_cast<Scalar>(left) * static_cast<Scalar>(right);
                            }
                        }
                        CHECK(std::abs(static_cast<double>(static_cast<Scalar>(y[at])) - want) <=
                              tolerance * (1 + std::abs(want)));
                    }
        }
}

struct Handle {
    cublasHandle_t handle = nullptr;
    Handle() { REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
    ~Handle() { cublasDestroy(handle); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
};

}  // namespace

TEST_CASE("emulation: cublas multiplies all types and transposes") {
    const Handle h;
    check_gemm<float, float, float>(h.handle, {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F}, 1e-5);
    check_gemm<double, double, double>(h.handle, {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F}, 1e-13);
    check_gemm<__nv_bfloat16, float, float>(h.handle, {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F}, 1e-5);
    check_gemm<__nv_bfloat16, __nv_bfloat16, float>(h.handle, {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F},
                                                    0x1p-8);
    check_gemm<float, float, float>(h.handle, {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32}, 2e-2);
}

TEST_CASE(
    "emulation: cublas rounds operands as its mode says, ignores C when beta is 0, and checks its "
    "arguments") {
    const Handle h;
    const float one = 1, zero = 0;
    const float precise = 1 + 0x1p-15f;
    DeviceArray<float> a(std::vector<float>{precise}), b(std::vector<float>{1.0f}), c(1);  // c is NaN
    auto product = [&](cublasComputeType_t compute) {
        CHECK(cublasGemmEx(h.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.data(), CUDA_R_32F, 1,
                           b.data(), CUDA_R_32F, 1, &zero, c.data(), CUDA_R_32F, 1, compute,
                           CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
        return c.host()[0];
    };
    CHECK(product(CUBLAS_COMPUTE_32F) == precise);
    CHECK(product(CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0f);
    CHECK(product(CUBLAS_COMPUTE_32F_FAST_16BF) == 1.0f);
    cublasSetMathMode(h.handle, CUBLAS_TF32_TENSOR_OP_MATH);
    CHECK(product(CUBLAS_COMPUTE_32F) == 1.0f);

    auto status = [&](cudaDataType type, int m, int lda) {
        return cublasGemmEx(h.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, 1, 1, &one, a.data(), type, lda, b.data(),
                            CUDA_R_32F, 1, &zero, c.data(), CUDA_R_32F, 1, CUBLAS_COMPUTE_32F,
                            CUBLAS_GEMM_DEFAULT);
    };
    CHECK(status(CUDA_R_16BF, 1, 1) == CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK(status(CUDA_R_32F, 2, 1) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(status(CUDA_R_32F, -1, 1) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(status(CUDA_R_32F, 0, 1) == CUBLAS_STATUS_SUCCESS);
    CHECK(contains(error_of([&] {
                       cublasGemmEx(h.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 2, &one, a.data(), CUDA_R_32F,
                                    1, b.data(), CUDA_R_32F, 2, &zero, c.data(), CUDA_R_32F, 1,
                                    CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
                   }),
                   "matrix A reaches outside of an allocation"));
    CHECK(std::string(cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)) == "CUBLAS_STATUS_NOT_SUPPORTED");
}

TEST_CASE("emulation: cublas products are captured like kernels") {
    const Handle h;
    cudaStream_t stream = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    cublasSetStream(h.handle, stream);
    DeviceArray<float> a(std::vector<float>{2.0f}), b(std::vector<float>{3.0f}), c(std::vector<float>{1.0f});
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    {
        const float one = 1;  // read at the call
        cublasGemmEx(h.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.data(), CUDA_R_32F, 1, b.data(),
                     CUDA_R_32F, 1, &one, c.data(), CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    }
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    cudaGraphExec_t executable = nullptr;
    REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
    CHECK(c.host()[0] == 1.0f);
    for (int i = 0; i < 2; ++i) cudaGraphLaunch(executable, stream);
    CHECK(c.host()[0] == 13.0f);
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
}
