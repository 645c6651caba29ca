// Rotary position embedding (Su et al., "RoFormer", 2021). Pair i of the R rotated dims turns by the angle
//
//   a[t,i] = (first_position + t) * base^(-2i/R)      in float64; its cosine and sine are rounded once
//   (u, v) -> (u cos a - v sin a, u sin a + v cos a)  backward: the same with -a
//
// interleaved: pair i is (x[2i], x[2i+1]).     half_split: pair i is (x[i], x[i + R/2]).
// Dims at and beyond R pass through. Nothing is saved but the table of cosines and sines.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

enum class RopeLayout { interleaved, half_split };

struct RopeConfig {
    RopeLayout layout = RopeLayout::interleaved;
    int64_t rotary_dims = 0;  // R: even, at most the head size; 0: all
    double base = 10000;
    int64_t first_position = 0;  // at least 0

    RopeConfig starting_at(int64_t position) const { return {layout, rotary_dims, base, position}; }
};

// x [B,T,H,dh] -> the same shape.
Tensor rope(const Tensor& x, const RopeConfig& config);

struct QkvHeads {
    Tensor q;     // [B,H,T,dh], rotated
    Tensor k, v;  // [B,G,T,dh], k rotated
};

// Takes a qkv projection apart into heads and rotates queries and keys, in one pass over memory.
// qkv [B,T,(H+2G) dh]: the query heads, then the key heads, then the value heads of a token.
QkvHeads split_qkv_rope(const Tensor& qkv, int64_t heads, int64_t kv_heads, const RopeConfig& config);

}  // namespace sieve
