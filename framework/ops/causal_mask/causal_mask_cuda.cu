// A thread walks single elements and writes those above the diagonal. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/causal_mask/kernels.h"

namespace sieve::cuda {

template <class T>
void mask_future(const MaskFuture<T>& a) {
    for_each_element(a.rows * a.width, [a] __device__(int64_t i) {
        if (i % a.width > i / a.width % a.width) a.scores[i] = -static_cast<T>(INFINITY);
    });
}

template void mask_future(const MaskFuture<float>&);
template void mask_future(const MaskFuture<double>&);

}  // namespace sieve::cuda
