// A thread holds one pack of 16 bytes. 12 bytes an element: 2048 x 256 float32 in 2 us at 3 TB/s.
// Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/add/kernels.h"

namespace sieve::cuda {

template <class T>
void add_forward(const AddForward<T>& args) {
    map_elements(
        args.count, args.y, [] __device__(T a, T b) { return a + b; }, args.a, args.b);
}

template void add_forward(const AddForward<float>&);
template void add_forward(const AddForward<double>&);

}  // namespace sieve::cuda
