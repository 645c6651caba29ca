#pragma once

#include <cstdint>

#include "framework/attention/scores/query_row.h"
#include "framework/attention/selection/selected_keys.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct SelectAmong {
    QueryRows<T> rows;
    const T* k;  // [batch, keys_each, width]
    int64_t keys_each;
    SelectedKeys candidates;  // of the rows [batch, queries]
    int32_t* indices;         // [batch, queries, slots]
    int32_t* counts;          // [batch, queries]
    int64_t* bad_row;         // the lowest row (b queries + i) with a NaN score, or -1; of the CPU only
    int64_t slots;
};

namespace cpu {
template <class T>
void select_among(const SelectAmong<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void select_among(const SelectAmong<T>& a);
}  // namespace cuda

}  // namespace sieve
