#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

// Rotates rows of heads and moves them between two layouts. Row (b,t,h) is read at
// x + b*x_batch + t*x_token + h*x_head and written at y + b*y_batch + t*y_token + h*y_head.
template <class T>
struct RopeMove {
    const T* x;  // null: zeros (a gradient that did not arrive)
    T* y;
    int64_t x_batch, x_token, x_head;
    int64_t y_batch, y_token, y_head;
    const T* cosines;  // [tokens, rotary_dims / 2]
    const T* sines;    // [tokens, rotary_dims / 2]; already negated for the backward
    int64_t batches, tokens, heads, head_dim;
    int64_t rotary_dims;  // 0: a plain move
    bool interleaved;
};

// Up to three moves of the same tokens and head size: the parts of a qkv projection.
template <class T>
struct RopeMoves {
    RopeMove<T> moves[3];
    int count;
};

namespace cpu {
template <class T>
void rope_move(const RopeMoves<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void rope_move(const RopeMoves<T>& a);
}  // namespace cuda

}  // namespace sieve
