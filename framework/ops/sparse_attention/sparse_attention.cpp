#include "framework/ops/sparse_attention/sparse_attention.h"

#include <algorithm>

#include "framework/autograd/autograd.h"
#include "framework/ops/dense_attention/arguments.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "sparse_attention";

// A gathered key costs about as much as this many keys of a tile, so row t, which walks t + 1 keys of tiles
// or gathers at most `slots`, is computed by tiles while t < tile_keys * slots.
//
// CPU, measured (float32, heads of 32, one Zen 5 core, random selections): forward 2.3 ns against 0.7,
// forward and backward 8.3 against 2.1. CUDA, computed for an H100: rows are gathered at the bandwidth of its
// L2 cache, where one of k and v (heads of 64) costs 93 ps, in bfloat16 46 ps; a pair of a tile costs 4 ps of
// multiply-adds, or 1 ps of the tensor cores'. Up to 4 heads that share keys share a gathered row.
int64_t tile_keys(const Tensor& q, int64_t kv_heads) {
    if (q.device().is_cpu()) return 4;
    const bool exact = q.dtype() == DType::float64 || cuda::precision() == cuda::Precision::fp32;
    return (exact ? 16 : 32) / std::min<int64_t>(4, q.dim(1) / kv_heads);
}

int64_t tiled_rows(SparseMethod method, int64_t rows_per_slot, int64_t slots, int64_t length) {
    if (method == SparseMethod::gathered) return 0;
    const int64_t rows =
        method == SparseMethod::masked_tiles ? length : std::min(length, rows_per_slot * slots);
    return (rows + 31) / 32 * 32;
}

SelectedKeys selected_keys(const Selection& selection, SparseMethod method, const Tensor& q,
                           const Tensor& k) {
    const int64_t slots = selection.indices.dim(2);
    return {.indices = selection.indices.data<int32_t>(),
            .counts = selection.counts.data<int32_t>(),
            .slots = slots,
            .tiled_rows = tiled_rows(method, tile_keys(q, k.dim(1)), slots, q.dim(2))};
}

void check_row(const SelectedKeys& keys, int64_t b, int64_t t, int64_t row) {
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

void check_selection(const Selection& selection, const Tensor& q, const Tensor& k) {
    const int64_t B = q.dim(0), T = q.dim(2);
    check_rank(op, "indices", selection.indices, 3);
    check_device(op, "indices", selection.indices, q.device(), "q");
    check_device(op, "counts", selection.counts, q.device(), "q");
    check_dtype(op, "indices", selection.indices, DType::int32);
    check_dtype(op, "counts", selection.counts, DType::int32);
    const std::string why = "to fit q " + to_string(q.shape());
    check_shape(op, "indices", selection.indices, Shape{B, T, selection.indices.dim(2)}, why);
    check_shape(op, "counts", selection.counts, Shape{B, T}, why);
    if (!q.device().is_cpu()) return;
    const SelectedKeys keys = selected_keys(selection, SparseMethod::automatic, q, k);
    for (int64_t b = 0; b < B; ++b)
        for (int64_t t = 0; t < T; ++t) check_row(keys, b, t, b * T + t);
}

}  // namespace

AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale, SparseMethod method) {
    check_attention(op, q, k, v);
    check_selection(selection, q, k);
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved{q, k, v, result.out.detach(), result.lse, scale};
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), cpu::sparse_attention_forward<T>, cuda::sparse_attention_forward<T>,
               attention_forward_arguments<T>(saved, selected_keys(selection, method, q, k)));
    });
    record(op, {q, k, v}, {result.out}, [saved, selection, method](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(op, cpu::sparse_attention_backward<T>,
                                          cuda::sparse_attention_backward<T>, dout[0], saved,
                                          selected_keys(selection, method, saved.q, saved.k));
        });
    });
    return result;
}

}  // namespace sieve
