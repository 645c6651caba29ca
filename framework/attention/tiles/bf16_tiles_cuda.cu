// The kernels of tensor_tiles.cuh in bfloat16.
#include "framework/attention/tiles/tensor_tiles.cuh"
#include "framework/attention/tiles/tensor_tiles.h"

namespace sieve::cuda {

void bf16_tiles_forward(const AttentionForward<float>& a, const Attended& attended) {
    tensor_tiles_forward<Bf16Fragments>(a, attended);
}

void bf16_tiles_backward(const AttentionBackward<float>& a, const Attended& attended) {
    tensor_tiles_backward<Bf16Fragments>(a, attended);
}

}  // namespace sieve::cuda
