#include "framework/blas/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/blas/gemm.h"
#include "framework/blas/kernels.h"
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

// The fastest of the short parts that fit into 20 ms, in GFLOP/s: `tile` computes `flops`.
template <class F>
double best_tile_rate(double flops, const F& tile) {
    constexpr int at_once = 64;
    double best = 0;
    const double end = seconds_now() + 0.02;
    do {
        const double begin = seconds_now();
        for (int i = 0; i < at_once; ++i) tile();
        best = std::max(best, 1e-9 * at_once * flops / (seconds_now() - begin));
    } while (seconds_now() < end);
    return best;
}

constexpr int64_t tile_steps = 256;

double tile_rate(const cpu::GemmKernels<float>& set) {
    const int64_t m = set.tile_rows, n = set.tile_columns, k = tile_steps;
    const std::vector<float> a(static_cast<size_t>(m * k), 0.5f), b(static_cast<size_t>(k * n), 0.25f);
    std::vector<float> c(static_cast<size_t>(m * n));
    return best_tile_rate(2.0 * static_cast<double>(m * n * k), [&] {
        set.tile({.rows = m,
                  .columns = n,
                  .k = k,
                  .a = a.data(),
                  .a_step = m,
                  .a_row = 1,
                  .b = b.data(),
                  .b_step = n,
                  .accumulate = false,
                  .c = c.data(),
                  .ldc = n});
    });
}

double tile_rate(const cpu::PairKernels& set) {
    const int64_t m = set.tile_rows, n = set.tile_columns, pairs = tile_steps / 2;
    constexpr cpu::Bf16Pair half = 0x3f003f00;  // 0.5 twice
    const std::vector<cpu::Bf16Pair> a(static_cast<size_t>(m * cpu::row_stride), half),
        b(static_cast<size_t>(pairs * n), half);
    std::vector<float> c(static_cast<size_t>(m * n));
    if (set.enter) set.enter();
    const double rate = best_tile_rate(2.0 * static_cast<double>(m * n * tile_steps), [&] {
        set.tile({.rows = m,
                  .columns = n,
                  .pairs = pairs,
                  .a = a.data(),
                  .b = b.data(),
                  .accumulate = false,
                  .c = c.data(),
                  .ldc = n});
    });
    if (set.leave) set.leave();
    return rate;
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

std::vector<cpu::KernelRate> cpu::kernel_rates() {
    std::vector<KernelRate> rates;
    for (const GemmKernels<float>* set : supported_gemm_kernels<float>())
        rates.push_back({std::string(set->name) + ", float32", tile_rate(*set)});
    for (const PairKernels* set : supported_pair_kernels())
        rates.push_back({std::string(set->name) + ", bfloat16", tile_rate(*set)});
    return rates;
}

double cpu::measured_sgemm_rate() {
    return std::max({best_rate(2048, 768, 256, true, 0.15), best_rate(1024, 512, 256, true, 0.15),
                     best_rate(2048, 256, 768, false, 0.15)});
}

double measured_gemm_rate(Device device) {
    return device.is_cpu() ? cpu::measured_sgemm_rate() : device_rate(4096, 0.5);
}

}  // namespace sieve
