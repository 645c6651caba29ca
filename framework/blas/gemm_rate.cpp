#include "framework/blas/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/blas/gemm.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/tensor.h"

namespace sieve {
namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The fastest of the calls that fit into `budget` seconds, at least two.
double best_rate(int64_t m, int64_t n, int64_t k, bool transpose_b, double budget) {
    const std::vector<float> a(static_cast<size_t>(m * k), 0.5f), b(static_cast<size_t>(k * n), 0.25f);
    std::vector<float> c(static_cast<size_t>(m * n));
    const Gemm<float> g{.transpose_b = transpose_b,
                        .m = m,
                        .n = n,
                        .k = k,
                        .a = a.data(),
                        .lda = k,
                        .b = b.data(),
                        .ldb = transpose_b ? k : n,
                        .c = c.data(),
                        .ldc = n};
    cpu::gemm(g);
    double best = 0;
    const double end = seconds_now() + budget;
    do {
        const double begin = seconds_now();
        cpu::gemm(g);
        best = std::max(best, 2e-9 * static_cast<double>(m * n * k) / (seconds_now() - begin));
    } while (seconds_now() < end);
    return best;
}

// Several products between two waits, so that the host's part does not count.
double device_rate(int64_t size, double budget) {
    constexpr int64_t products = 10;
    const Shape square{size, size};
    const Tensor a = Tensor::full(square, 0.5, DType::float32, cuda::device);
    const Tensor b = Tensor::full(square, 0.25, DType::float32, cuda::device);
    const Tensor c = Tensor::empty(square, DType::float32, cuda::device);
    const Gemm<float> g{.transpose_b = true,
                        .m = size,
                        .n = size,
                        .k = size,
                        .a = a.data<float>(),
                        .lda = size,
                        .b = b.data<float>(),
                        .ldb = size,
                        .c = c.data<float>(),
                        .ldc = size};
    const auto run = [&] {
        for (int64_t i = 0; i < products; ++i) cuda::gemm(g);
        cuda::synchronize();
    };
    run();
    double best = 0;
    const double end = seconds_now() + budget;
    do {
        const double begin = seconds_now();
        run();
        best = std::max(best,
                        2e-9 * static_cast<double>(products * size * size * size) / (seconds_now() - begin));
    } while (seconds_now() < end);
    return best;
}

}  // namespace

double cpu::measured_sgemm_rate() {
    return std::max({best_rate(2048, 768, 256, true, 0.15), best_rate(1024, 512, 256, true, 0.15),
                     best_rate(2048, 256, 768, false, 0.15)});
}

double measured_gemm_rate(Device device) {
    return device.is_cpu() ? cpu::measured_sgemm_rate() : device_rate(4096, 0.5);
}

}  // namespace sieve
