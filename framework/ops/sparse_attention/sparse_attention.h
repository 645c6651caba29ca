// Attention over selected keys: DeepSeek Sparse Attention's main attention (DeepSeek-V3.2-Exp, 2025,
// section 2.1). All heads of a row share its selection S_t; query head h reads the key and value head
// g = h / (H/G).
//
//   z[b,h,t,s] = scale * q[b,h,t] . k[b,g,s]          for s in S_t
//   lse[b,h,t] = log sum_s exp(z[b,h,t,s])
//   a[b,h,t,s] = exp(z[b,h,t,s] - lse[b,h,t])
//   out[b,t,h*dv + j] = sum_s a[b,h,t,s] v[b,g,s,j]
//
// The gradients are those of dense_attention.h with sums over S_t. A row with an empty S_t has output 0, lse
// -inf and gradient 0. The selection is a constant. Memory O(T k) with the selection, O(T) beside it, never
// T x T: on the CPU the forward cuts a row's gathers into passes, one 32-bit index a row for each 256 to 2048
// keys, and the backward orders the gathered pairs by keys, 32 bits each while it runs. Saves q, k, v, out,
// lse and the selection, on the CPU in 16 bits an index up to 65,536 tokens.
//
// Two methods:
//   gathered      reads the selected rows one by one: work O(T k).
//   masked_tiles  dense_attention's tiles, skipping tiles that nobody selected from, with the other keys
//                 masked out: work up to O(T^2), but a key costs about a quarter of a gathered one, on a CUDA
//                 device a twentieth or less. A selection of every key gives the bits of dense_attention.
//   automatic     by row: tiles for the rows t < n * slots (up to the next multiple of 32), where walking
//                 t + 1 keys is cheaper than gathering `slots`; gathered beyond. So all of it is tiles when
//                 T <= n k, and the work is O(T k). n is 4 on the CPU; on a CUDA device 16, under tf32 and
//                 bf16 precision 32, divided by the heads that share a key head (at most 4).
// By each method the bits of row t depend on rows 0..t and their selections alone: not on T, as long as slots
// is min(k, T), and not on the number of threads. Bits repeat from run to run on every device.
//
// On a CUDA device the masks of masked_tiles take a bit a (row, key) of the tiled rows: under automatic no
// more memory than the selection. Products are rounded as in dense_attention; gathered rows only under bf16
// precision. Values of a selection are not checked there: a key outside [0, t] is left out.
#pragma once

#include "framework/attention/gather/sparse_method.h"
#include "framework/attention/selection/selection.h"
#include "framework/attention/tiles/attention_output.h"

namespace sieve {

// q [B,H,T,dh], k [B,G,T,dh], v [B,G,T,dv], all float32 or all float64. Throws as dense_attention does, and
// when the selection's shapes or dtypes are wrong; on the CPU also when a count is not in [0, min(slots, t +
// 1)], a key of a row is not in [0, t], or its keys do not ascend. `weights`, when given, becomes the
// gathered rows' probabilities summed over heads: one more [B,T,slots]. On a CUDA device nothing is kept.
AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale,
                                 SparseMethod method = SparseMethod::automatic,
                                 SelectedWeights* weights = nullptr);

}  // namespace sieve
