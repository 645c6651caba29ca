#include "framework/blas/gemm_rate.h"

#include <algorithm>
#include <chrono>

#include "framework/blas/gemm.h"
#include "framework/core/tensor.h"

namespace sieve {
namespace {

double best_rate(int64_t m, int64_t n, int64_t k) {
    using Clock = std::chrono::steady_clock;
    const Tensor a = Tensor::full({m, k}, 0.5), b = Tensor::full({k, n}, 0.25), c = Tensor::empty({m, n});
    const cpu::Gemm<float> product{.m = m, .n = n, .k = k, .a = a.data<float>(), .lda = k, .b = b.data<float>(),
                                   .ldb = n, .c = c.data<float>(), .ldc = n};
    double best = 0;
    const auto start = Clock::now();
    while (std::chrono::duration<double>(Clock::now() - start).count() < 0.15) {
        const auto before = Clock::now();
        cpu::gemm(product);
        const double seconds = std::chrono::duration<double>(Clock::now() - before).count();
        best = std::max(best, 2e-9 * static_cast<double>(m * n * k) / seconds);
    }
    return best;
}

}  // namespace

double measured_sgemm_rate() {
    return std::max({best_rate(2048, 768, 256), best_rate(2048, 256, 768), best_rate(1024, 1024, 1024)});
}

}  // namespace sieve
