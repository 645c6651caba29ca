// A thread holds one pack of 16 bytes. 8 bytes an element forward, 12 backward, about 25 instructions. 2048 x
// 1024 float32: 6 us and 8 us at 3 TB/s. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/silu.cuh"
#include "framework/ops/silu/kernels.h"

namespace sieve::cuda {

template <class T>
void silu_forward(const SiluForward<T>& a) {
    map_elements(
        a.count, a.y, [] __device__(T x) { return silu(x); }, a.x);
}

template <class T>
void silu_backward(const SiluBackward<T>& a) {
    map_elements(
        a.count, a.dx, [] __device__(T dy, T x) { return dy * silu_slope(x); }, a.dy, a.x);
}

template void silu_forward(const SiluForward<float>&);
template void silu_forward(const SiluForward<double>&);
template void silu_backward(const SiluBackward<float>&);
template void silu_backward(const SiluBackward<double>&);

}  // namespace sieve::cuda
