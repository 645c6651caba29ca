#include <algorithm>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/sum/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t chunk_elements = 1 << 14;

template <class T>
SIEVE_INLINE double sum_range(const T* x, int64_t count) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) total += static_cast<double>(x[i]);
    return total;
}

SIEVE_CLONES double sum_chunk(const float* x, int64_t count) {
    return sum_range(x, count);
}
SIEVE_CLONES double sum_chunk(const double* x, int64_t count) {
    return sum_range(x, count);
}

}  // namespace

template <class T>
void sum_forward(const SumForward<T>& args) {
    const int64_t chunks = (args.count + chunk_elements - 1) / chunk_elements;
    std::vector<double> partial(static_cast<size_t>(chunks));
    parallel_for(chunks, 4, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
            const int64_t first = c * chunk_elements;
            partial[static_cast<size_t>(c)] =
                sum_chunk(args.x + first, std::min(chunk_elements, args.count - first));
        }
    });
    double total = 0;
    for (const double part : partial) total += part;
    *args.y = static_cast<T>(total);
}

template <class T>
void sum_backward(const SumBackward<T>& args) {
    std::fill(args.dx, args.dx + args.count, *args.dy);
}

template void sum_forward(const SumForward<float>&);
template void sum_forward(const SumForward<double>&);
template void sum_backward(const SumBackward<float>&);
template void sum_backward(const SumBackward<double>&);

}  // namespace sieve::cpu
