// Private to this room.
// Attention by tiles on the tensor cores: q, k, v, dout and the weights rounded to bfloat16 or tf32,
// everything else in float32. Rows [0, attended.rows) as tile_launches.h says.
#pragma once

#include "framework/attention/tiles/attended.cuh"
#include "framework/attention/tiles/attention_kernels.h"

namespace sieve::cuda {

constexpr int64_t widest_tensor_tiles = 128;  // dim and value_dim

void bf16_tiles_forward(const AttentionForward<float>& a, const Attended& attended);
void bf16_tiles_backward(const AttentionBackward<float>& a, const Attended& attended);
void tf32_tiles_forward(const AttentionForward<float>& a, const Attended& attended);
void tf32_tiles_backward(const AttentionBackward<float>& a, const Attended& attended);

}  // namespace sieve::cuda
