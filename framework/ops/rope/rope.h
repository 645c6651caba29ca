// Rotary position embedding (Su et al., "RoFormer", 2021). Pair i of the R rotated dims turns by the angle
//
//   a[t,i] = (first + t) * base^(-2i/R)               in float64; its cosine and sine are rounded once
//   (u, v) -> (u cos a - v sin a, u sin a + v cos a)  backward: the same with -a
//
// interleaved: pair i is (x[2i], x[2i+1]).     half_split: pair i is (x[i], x[i + R/2]).
// Dims at and beyond R pass through. Nothing is saved but the table of cosines and sines.
//
// YaRN (Peng et al., 2023), for texts `factor` times longer than the L tokens of the first training: pairs that
// turn often within L keep their frequency f[i] = base^(-2i/R), those that turn seldom have it divided:
//
//   a[t,i]  = (first + t) * (f[i] (1 - r[i]) + f[i] / factor r[i])
//   r[i]    = (i - low) / (high - low), at least 0 and at most 1
//   low     = max(floor(pair(beta_fast)), 0),   high = min(ceil(pair(beta_slow)), R - 1), 0.001 more when equal
//   pair(n) = R ln(L / (2 pi n)) / (2 ln base)        the pair that turns n times within L
//
// and cosines and sines are multiplied by `magnitude`.
#pragma once

#include <optional>
#include <vector>

#include "framework/core/tensor.h"

namespace sieve {

enum class RopeLayout { interleaved, half_split };

struct YarnScaling {
    double factor;            // at least 1
    int64_t original_length;  // L, at least 1
    double beta_fast, beta_slow;
    double magnitude = 1;
    bool operator==(const YarnScaling&) const = default;
};

// What the angles of one position are.
struct RopeAngles {
    double base = 10000;
    std::optional<YarnScaling> yarn;
    bool operator==(const RopeAngles&) const = default;

    std::vector<double> frequencies(int64_t rotary_dims) const;  // [rotary_dims / 2]: a[1,i]
    double magnitude() const { return yarn ? yarn->magnitude : 1; }
};

// Where the tokens of a tensor stand: one after the other from `first` on, or each at its own place.
struct Positions {
    int64_t first = 0;  // at least 0
    // As many as there are tokens, each at least 0; empty: they follow each other. On the CPU alone.
    std::vector<int64_t> each = {};
};

struct RopeConfig {
    RopeLayout layout = RopeLayout::interleaved;
    int64_t rotary_dims = 0;  // R: even, at most the head size; 0: all
    RopeAngles angles = {};
    Positions positions = {};

    RopeConfig at(const Positions& places) const { return {layout, rotary_dims, angles, places}; }
};

// Of the table of cosines and sines that serves all positions below `positions`.
int64_t rope_table_bytes(int64_t positions, int64_t rotary_dims, DType dtype);

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
