// One thread an element: a Philox block, then logarithm, root and cosine in float64, as on the CPU, from
// which the numbers differ by the rounding of these functions alone. Bound by the float64 units: router
// logits, a few thousand numbers, take 2 us. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/noise/kernels.h"

namespace sieve::cuda {

template <class T>
void noise_forward(const NoiseForward<T>& a) {
    for_each_element(a.count, [a] __device__(int64_t i) {
        const double normal = normal_at(resolved(a.key), static_cast<uint64_t>(i));
        a.y[i] = a.x[i] + static_cast<T>(a.std * normal);
    });
}

template void noise_forward(const NoiseForward<float>&);
template void noise_forward(const NoiseForward<double>&);

}  // namespace sieve::cuda
