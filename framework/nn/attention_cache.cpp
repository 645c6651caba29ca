#include "framework/nn/attention_cache.h"

#include <algorithm>
#include <cstring>

#include "framework/core/error.h"
#include "framework/ops/decode_select/decode_select.h"

namespace sieve {
namespace {

// `from` [outer,n,inner] becomes the rows first..first+n-1 of `to` [outer,C,inner].
void copy_rows(const Tensor& from, const Tensor& to, int64_t first) {
    const size_t row = static_cast<size_t>(from.dim(2)) * size_of(from.dtype());
    const size_t bytes = static_cast<size_t>(from.dim(1)) * row,
                 stride = static_cast<size_t>(to.dim(1)) * row;
    if (bytes == 0) return;
    const char* source = static_cast<const char*>(from.raw());
    char* target = static_cast<char*>(to.raw()) + static_cast<size_t>(first) * row;
    for (int64_t i = 0; i < from.dim(0); ++i, source += bytes, target += stride)
        std::memcpy(target, source, bytes);
}

// The same rows [outer,C,inner] with room for `needed`, at least twice as many as before; new ones are zero.
Tensor with_room(const Tensor& rows, int64_t needed) {
    if (rows.dim(1) >= needed) return rows;
    const Tensor larger = Tensor::zeros({rows.dim(0), std::max(needed, 2 * rows.dim(1)), rows.dim(2)},
                                        rows.dtype(), rows.device());
    copy_rows(rows, larger, 0);
    return larger;
}

// Appends x [B,G,n,w] to `held` [B,G,C,w], of whose C rows `length` are in use.
void append_rows(const char* what, Tensor& held, int64_t length, const Tensor& x) {
    if (x.rank() != 4 || !x.device().is_cpu())
        fail(std::string("attention cache: ") + what + " is " + to_string(x.shape()) + " on " +
             to_string(x.device()) + ", want 4 dims on the cpu");
    const int64_t outer = x.dim(0) * x.dim(1), width = x.dim(3);
    if (!held.defined()) held = Tensor::empty({x.dim(0), x.dim(1), 0, width}, x.dtype());
    if (held.dtype() != x.dtype() || held.shape() != Shape{x.dim(0), x.dim(1), held.dim(2), width})
        fail(std::string("attention cache: ") + what + " is " + to_string(x.shape()) +
             ", which does not continue " + to_string(held.shape()));
    const Tensor rows = with_room(held.alias({outer, held.dim(2), width}), length + x.dim(2));
    copy_rows(x.alias({outer, x.dim(2), width}), rows, length);
    held = rows.alias({x.dim(0), x.dim(1), rows.dim(1), width});
}

// The same for indexer keys [B,n,dI], into panels [B,P,dI,keys of a panel].
void append_indexer_keys(Tensor& held, int64_t length, const Tensor& k) {
    const int64_t each = indexer_panel_keys(k.dtype()), B = k.dim(0), width = k.dim(2);
    if (!held.defined()) held = Tensor::empty({B, 0, width, each}, k.dtype());
    const int64_t needed = (length + k.dim(1) + each - 1) / each;
    const Tensor panels = with_room(held.alias({held.dim(0), held.dim(1), held.dim(2) * each}), needed);
    held = panels.alias({held.dim(0), panels.dim(1), held.dim(2), each});
    store_indexer_keys(k, held, length);
}

}  // namespace

void AttentionCache::append(const Tensor& k, const Tensor& v, const RoundedKeys& indexer_keys) {
    append_rows("k", k_, length_, k);
    append_rows("v", v_, length_, v);
    if (indexer_keys.k.defined()) append_indexer_keys(indexer_panels_, length_, indexer_keys.k);
    if (const Tensor& scales = indexer_keys.scales; scales.defined())
        append_rows("indexer key scales", indexer_key_scales_, length_,
                    scales.alias({scales.dim(0), 1, scales.dim(1), 1}));
    length_ += k.dim(2);
}

Tensor AttentionCache::indexer_key_scales() const {
    const Tensor& scales = indexer_key_scales_;
    return scales.defined() ? scales.alias({scales.dim(0), scales.dim(2)}) : Tensor();
}

}  // namespace sieve
