// How a row's selected keys are read: ops/sparse_attention says when which is used. Sparse attention and decoding
// ask here, so that a row goes the same way, and has the same bits, in both.
#pragma once

#include <algorithm>

#include "framework/core/precision.h"
#include "framework/core/tensor.h"

namespace sieve {

enum class SparseMethod { automatic, gathered, masked_tiles };

// A gathered key costs about as much as this many keys of a tile, so row t, which walks t + 1 keys of tiles
// or gathers at most `slots`, is computed by tiles while t < tile_keys * slots.
//
// CPU, measured (float32, heads of 32, one core, random selections): with AVX-512 (Zen 5) forward 2.3 ns
// against 0.7, forward and backward 8.3 against 2.1; with AVX2 (Zen 3) 6.5 against 2.2 and 23 against 6.9.
// CUDA, computed for an H100: rows are gathered at the bandwidth of its L2 cache, where one of k and v (heads
// of 64) costs 93 ps, in bfloat16 46 ps; a pair of a tile costs 4 ps of multiply-adds, or 1 ps of the tensor
// cores'. Up to 4 heads that share keys share a gathered row.
inline int64_t tile_keys(const Tensor& q, int64_t kv_heads) {
    if (q.device().is_cpu()) return 4;
    const bool exact = q.dtype() == DType::float64 || precision() == Precision::fp32;
    return (exact ? 16 : 32) / std::min<int64_t>(4, q.dim(1) / kv_heads);
}

// How many rows go through tiles, of `length` rows with `slots` selected keys; heads of q [B,H,n,dh], kv_heads.
inline int64_t tiled_rows(SparseMethod method, const Tensor& q, int64_t kv_heads, int64_t slots,
                          int64_t length) {
    if (method == SparseMethod::gathered) return 0;
    const int64_t rows =
        method == SparseMethod::masked_tiles ? length : std::min(length, tile_keys(q, kv_heads) * slots);
    return (rows + 31) / 32 * 32;
}

}  // namespace sieve
