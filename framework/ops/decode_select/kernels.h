#pragma once

#include <cstdint>

namespace sieve {

template <class T>
struct StoreIndexerKeys {
    const T* k;  // [batch, keys, width]
    T* panels;   // [batch, panels_each, width, panel_width]
    int64_t batch, keys, width, panels_each, first;
};

template <class T>
struct DecodeSelect {
    const T* q;           // [batch, heads, width]
    const T* panels;      // [batch, panels_each, width, panel_width]
    const T* w;           // [batch, heads]
    const T* key_scales;  // [batch, scales_each]; or null
    int64_t scales_each;
    int32_t* indices;  // [batch, slots]
    int32_t* counts;   // [batch]
    int64_t* bad_row;  // the lowest batch row with a NaN score, or -1
    int64_t batch, heads, width, panels_each, length;
    double scale;
    int64_t slots;  // min(top_k, length)
};

namespace cpu {
template <class T>
void store_indexer_keys(const StoreIndexerKeys<T>& a);
template <class T>
void decode_select(const DecodeSelect<T>& a);
}  // namespace cpu

}  // namespace sieve
