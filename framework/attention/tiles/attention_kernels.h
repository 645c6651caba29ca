// The arguments of dense attention, and, with `keys` set, of sparse attention; and of the last rows of either
// over the keys of a cache (ops/decode_attention).
#pragma once

#include <cstdint>

#include "framework/attention/selection/selected_keys.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

struct AttentionSizes {
    int64_t batch, heads, kv_heads, length;
    int64_t dim;        // of a query and a key
    int64_t value_dim;  // of a value
    int64_t key_rows;   // of k and v, a head: `length`; a cache has room for more
    // Forward only: the rows [first_query, length) alone are computed, and `length` in the shapes of q, out,
    // lse and the selection stands for queries().
    int64_t first_query = 0;

    int64_t queries() const { return length - first_query; }
    // Where query t lies among the rows of a head of q and lse, and among those of out and the selection.
    int64_t head_row(int64_t b, int64_t h, int64_t t) const {
        return (b * heads + h) * queries() + t - first_query;
    }
    int64_t token_row(int64_t b, int64_t t) const { return b * queries() + t - first_query; }
};

template <class T>
struct AttentionForward {
    const T* q;   // [batch, heads, length, dim]
    const T* k;   // [batch, kv_heads, key_rows, dim]
    const T* v;   // [batch, kv_heads, key_rows, value_dim]
    T* out;       // [batch, length, heads, value_dim]
    T* lse;       // [batch, heads, length]
    T* lse_rest;  // [batch, heads, length]: what lse lost in rounding; 0 under tf32 and bf16 precision
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
    // With selected keys: rows below this multiple of 32 are computed by masked tiles, the others from
    // gathered keys.
    int64_t tiled_rows = 0;
    // [batch, length, slots] or null: the sums over heads of the probabilities of the selected keys, for the
    // rows from tiled_rows on. CPU only.
    T* weight_sums = nullptr;
};

template <class T>
struct AttentionBackward {
    const T* dout;  // [batch, length, heads, value_dim]
    const T* q;     // [batch, heads, length, dim]
    const T* k;     // [batch, kv_heads, length, dim]
    const T* v;     // [batch, kv_heads, length, value_dim]
    const T* out;   // [batch, length, heads, value_dim]
    const T* lse;   // [batch, heads, length]
    const T* lse_rest;
    T* dq;  // [batch, heads, length, dim]
    T* dk;  // [batch, kv_heads, length, dim]
    T* dv;  // [batch, kv_heads, length, value_dim]
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
    int64_t tiled_rows = 0;  // as in the forward
};

namespace cpu {
template <class T>
void dense_attention_forward(const AttentionForward<T>& a);
template <class T>
void dense_attention_backward(const AttentionBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void dense_attention_forward(const AttentionForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void dense_attention_backward(const AttentionBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
