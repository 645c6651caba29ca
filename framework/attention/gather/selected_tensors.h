// From a Selection to the kernels' SelectedKeys, with checks. Shared by sparse attention and by decoding, so
// that a row goes the same way, and has the same bits, in both.
#pragma once

#include <algorithm>

#include "framework/attention/gather/sparse_method.h"
#include "framework/attention/selection/selection.h"
#include "framework/attention/tiles/attention_kernels.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/dispatch.h"

namespace sieve {

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
    const bool exact = q.dtype() == DType::float64 || cuda::precision() == cuda::Precision::fp32;
    return (exact ? 16 : 32) / std::min<int64_t>(4, q.dim(1) / kv_heads);
}

inline int64_t tiled_rows(SparseMethod method, int64_t rows_per_slot, int64_t slots, int64_t length) {
    if (method == SparseMethod::gathered) return 0;
    const int64_t rows =
        method == SparseMethod::masked_tiles ? length : std::min(length, rows_per_slot * slots);
    return (rows + 31) / 32 * 32;
}

// The selection of the last rows of `length`, for heads of q and k.
inline SelectedKeys selected_keys(const Selection& selection, SparseMethod method, const Tensor& q,
                                  const Tensor& k, int64_t length) {
    const int64_t slots = selection.indices.dim(2);
    return {.indices = selection.indices.data<int32_t>(),
            .counts = selection.counts.data<int32_t>(),
            .slots = slots,
            .tiled_rows = tiled_rows(method, tile_keys(q, k.dim(1)), slots, length)};
}

inline void check_row(const char* op, const SelectedKeys& keys, int64_t b, int64_t t, int64_t row) {
    const std::string where =
        std::string(op) + ": row [" + std::to_string(b) + "," + std::to_string(t) + "] selects ";
    const int64_t count = keys.counts[row], most = std::min(keys.slots, t + 1);
    if (count < 0 || count > most)
        fail(where + std::to_string(count) + " keys, want 0 to " + std::to_string(most));
    if (count == 0) return;
    const int32_t* selected = keys.indices + row * keys.slots;
    for (const int64_t key : {selected[0], selected[count - 1]})
        if (key < 0 || key > t)
            fail(where + "key " + std::to_string(key) + ", want 0 to " + std::to_string(t));
}

// `selection` belongs to q [B,H,n,dh], the last n of `length` tokens. Rows are looked at on the CPU only.
inline void check_selected(const char* op, const Selection& selection, const Tensor& q, const Tensor& k,
                           int64_t length) {
    const int64_t B = q.dim(0), n = q.dim(2);
    check_rank(op, "indices", selection.indices, 3);
    check_device(op, "indices", selection.indices, q.device(), "q");
    check_device(op, "counts", selection.counts, q.device(), "q");
    check_dtype(op, "indices", selection.indices, DType::int32);
    check_dtype(op, "counts", selection.counts, DType::int32);
    const std::string why = "to fit q " + to_string(q.shape());
    check_shape(op, "indices", selection.indices, Shape{B, n, selection.indices.dim(2)}, why);
    check_shape(op, "counts", selection.counts, Shape{B, n}, why);
    if (!q.device().is_cpu()) return;
    const SelectedKeys keys = selected_keys(selection, SparseMethod::automatic, q, k, length);
    for (int64_t b = 0; b < B; ++b)
        for (int64_t i = 0; i < n; ++i) check_row(op, keys, b, length - n + i, b * n + i);
}

}  // namespace sieve
