// The kernels of tensor_tiles.cuh in tf32.
#include "framework/attention/tiles/tensor_tiles.cuh"
#include "framework/attention/tiles/tensor_tiles.h"

namespace sieve::cuda {

void tf32_tiles_forward(const AttentionForward<float>& a, const Attended& attended) {
    tensor_tiles_forward<Tf32Fragments>(a, attended);
}

void tf32_tiles_backward(const AttentionBackward<float>& a, const Attended& attended) {
    tensor_tiles_backward<Tf32Fragments>(a, attended);
}

}  // namespace sieve::cuda
