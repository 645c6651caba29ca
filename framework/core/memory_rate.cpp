#include "framework/core/memory_rate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vectors.h"

namespace sieve {
namespace {

struct SumOfVectors {
    template <class T, int width>
    static SIEVE_INLINE void run(const T* x, int64_t n, T* sum) {
        // As many chains as keep the loads busy.
        cpu::Vector<T, width> sums[8] = {};
        for (int64_t i = 0; i + 8 * width <= n; i += 8 * width)
#pragma GCC unroll 8
            for (int64_t c = 0; c < 8; ++c) sums[c] += cpu::load_anywhere<T, width>(x + i + c * width);
        *sum = 0;
        for (int c = 0; c < 8; ++c)
            for (int l = 0; l < width; ++l) *sum += sums[c][l];
    }
};

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double measured_read_rate(int64_t bytes) {
    const Tensor block = Tensor::full({bytes / static_cast<int64_t>(sizeof(float))}, 1);
    const float* x = block.data<float>();
    double best = 0;
    for (int pass = 0; pass < 30; ++pass) {
        const double start = now();
        parallel_for(block.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
            float sum = 0;
            cpu::run_best<SumOfVectors, float>(x + begin, end - begin, &sum);
            // The reading is wanted, the sum is not: it is kept from the optimiser.
            asm volatile("" : : "r"(&sum) : "memory");
        });
        best = std::max(best, static_cast<double>(block.bytes()) / (now() - start));
    }
    return best;
}

}  // namespace sieve
