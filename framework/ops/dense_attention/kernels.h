// The arguments of dense attention, and, with `keys` set, of sparse attention.
#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

struct AttentionSizes {
    int64_t batch, heads, kv_heads, length;
    int64_t dim;        // of a query and a key
    int64_t value_dim;  // of a value
};

// Which keys each row attends to. indices null: row t attends to 0..t.
struct SelectedKeys {
    const int32_t* indices = nullptr;  // [batch, length, slots], ascending, each <= t
    const int32_t* counts = nullptr;   // [batch, length], 0 <= count <= min(slots, t + 1)
    int64_t slots = 0;
    // Rows below this multiple of 32 are computed by masked tiles, the others from gathered keys.
    int64_t tiled_rows = 0;
};

template <class T>
struct AttentionForward {
    const T* q;  // [batch, heads, length, dim]
    const T* k;  // [batch, kv_heads, length, dim]
    const T* v;  // [batch, kv_heads, length, value_dim]
    T* out;      // [batch, length, heads, value_dim]
    T* lse;      // [batch, heads, length]
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
};

template <class T>
struct AttentionBackward {
    const T* dout;  // [batch, length, heads, value_dim]
    const T* q;     // [batch, heads, length, dim]
    const T* k;     // [batch, kv_heads, length, dim]
    const T* v;     // [batch, kv_heads, length, value_dim]
    const T* out;   // [batch, length, heads, value_dim]
    const T* lse;   // [batch, heads, length]
    T* dq;          // [batch, heads, length, dim]
    T* dk;          // [batch, kv_heads, length, dim]
    T* dv;          // [batch, kv_heads, length, value_dim]
    T scale;
    AttentionSizes size;
    SelectedKeys keys;
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
