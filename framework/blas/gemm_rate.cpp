#include "framework/blas/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/blas/gemm.h"

namespace sieve::cpu {
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
    gemm(g);
    double best = 0;
    const double end = seconds_now() + budget;
    do {
        const double begin = seconds_now();
        gemm(g);
        best = std::max(best, 2e-9 * static_cast<double>(m * n * k) / (seconds_now() - begin));
    } while (seconds_now() < end);
    return best;
}

}  // namespace

double measured_sgemm_rate() {
    return std::max({best_rate(2048, 768, 256, true, 0.15), best_rate(1024, 512, 256, true, 0.15),
                     best_rate(2048, 256, 768, false, 0.15)});
}

}  // namespace sieve::cpu
