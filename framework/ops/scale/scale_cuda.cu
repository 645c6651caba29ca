// A thread holds one pack of 16 bytes. 8 bytes an element. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/scale/kernels.h"

namespace sieve::cuda {

template <class T>
void scale_forward(const ScaleForward<T>& args) {
    const T factor = static_cast<T>(args.factor);
    map_elements(
        args.count, args.y, [factor] __device__(T x) { return factor * x; }, args.x);
}

template void scale_forward(const ScaleForward<float>&);
template void scale_forward(const ScaleForward<double>&);

}  // namespace sieve::cuda
