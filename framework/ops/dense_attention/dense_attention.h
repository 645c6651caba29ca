// Causal softmax attention in tiles, with grouped queries (Dao et al., "FlashAttention", 2022; Ainslie et
// al., "GQA", 2023). Query head h reads the key and value head g = h / (H/G).
//
//   z[b,h,t,s] = scale * q[b,h,t] . k[b,g,s]          for s <= t
//   lse[b,h,t] = log sum_s exp(z[b,h,t,s])
//   a[b,h,t,s] = exp(z[b,h,t,s] - lse[b,h,t])
//   out[b,t,h*dv + j] = sum_s a[b,h,t,s] v[b,g,s,j]
//
//   D[b,h,t]  = dout[b,t,h] . out[b,t,h]
//   dz        = a (dout . v - D)
//   dq[b,h,t] = scale * sum_s dz[t,s] k[s],   dk[b,g,s] = scale * sum_{h,t} dz[t,s] q[t],
//   dv[b,g,s] = sum_{h,t} a[t,s] dout[t]
//
// No T x T buffer: scores live in tiles; the backward recomputes them from lse. Saves q, k, v, out, and lse
// with what it lost in rounding. The bits of row t depend on rows 0..t of q, k and v alone (as long as later
// rows are finite), and nothing depends on the number of threads. Bits repeat from run to run on every
// device.
//
// On a CUDA device, float32: under tf32 and bf16 precision (core/precision.h) q, k, v, dout, a and dz are
// rounded for the tensor cores where they are multiplied, and lse is that of the rounded scores; heads with
// dh or dv over 128 are computed exactly all the same.
#pragma once

#include "framework/attention/tiles/attention_output.h"

namespace sieve {

// q [B,H,T,dh], k [B,G,T,dh], v [B,G,T,dv], all float32 or all float64. Throws when dh or dv is 0, H is no
// multiple of G, shapes or dtypes differ.
AttentionOutput dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale);

}  // namespace sieve
