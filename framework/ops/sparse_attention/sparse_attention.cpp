#include "framework/ops/sparse_attention/sparse_attention.h"

#include <algorithm>

#include "framework/autograd/autograd.h"
#include "framework/ops/dense_attention/arguments.h"
#include "framework/ops/sparse_attention/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "sparse_attention";

SelectedKeys selected_keys(const Selection& selection) {
    return {.indices = selection.indices.data<int32_t>(),
            .counts = selection.counts.data<int32_t>(),
            .slots = selection.indices.dim(2)};
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

void check_selection(const Selection& selection, const Tensor& q) {
    const int64_t B = q.dim(0), T = q.dim(2);
    check_rank(op, "indices", selection.indices, 3);
    check_dtype(op, "indices", selection.indices, DType::int32);
    check_dtype(op, "counts", selection.counts, DType::int32);
    const std::string why = "to fit q " + to_string(q.shape());
    check_shape(op, "indices", selection.indices, Shape{B, T, selection.indices.dim(2)}, why);
    check_shape(op, "counts", selection.counts, Shape{B, T}, why);
    if (!q.device().is_cpu()) return;
    const SelectedKeys keys = selected_keys(selection);
    for (int64_t b = 0; b < B; ++b)
        for (int64_t t = 0; t < T; ++t) check_row(keys, b, t, b * T + t);
}

SparseMethod chosen(SparseMethod method, int64_t slots, int64_t length) {
    if (method != SparseMethod::automatic) return method;
    return 3 * slots >= length ? SparseMethod::masked_tiles : SparseMethod::gathered;
}

}  // namespace

AttentionOutput sparse_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Selection& selection, double scale, SparseMethod method) {
    check_attention(op, q, k, v);
    check_selection(selection, q);
    const bool tiled = chosen(method, selection.indices.dim(2), q.dim(2)) == SparseMethod::masked_tiles;
    const AttentionOutput result = empty_attention_output(q, v);
    const SavedAttention saved{q, k, v, result.out.detach(), result.lse, scale};
    dispatch_float(op, q.dtype(), [&]<class T>() {
        launch(op, q.device(), tiled ? cpu::tiled_attention_forward<T> : cpu::gathered_attention_forward<T>,
               attention_forward_arguments<T>(saved, selected_keys(selection)));
    });
    record(op, {q, k, v}, {result.out}, [saved, selection, tiled](const std::vector<Tensor>& dout) {
        return dispatch_float(op, saved.q.dtype(), [&]<class T>() {
            return attention_gradients<T>(
                op, tiled ? cpu::tiled_attention_backward<T> : cpu::gathered_attention_backward<T>, dout[0],
                saved, selected_keys(selection));
        });
    });
    return result;
}

}  // namespace sieve
