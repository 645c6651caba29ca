#pragma once

#include <cstdint>

#include "framework/attention/target/attention_target.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct AttentionSelect {
    AttentionTarget<T> attention;
    int32_t* indices;  // [B,T,slots]
    int32_t* counts;   // [B,T]
    int64_t* bad_row;  // the lowest row (b T + t) with a NaN probability, or -1; of the CPU only
    int64_t batch, length, slots;
};

template <class T>
struct AttentionSelectNext {
    AttentionTarget<T> attention;  // q [B,H,1,dh]; k as panels, [B,G,panels_each,dh,panel_width]
    int64_t panels_each;
    int32_t* indices;  // [B,slots]
    int32_t* counts;   // [B]
    int64_t* bad_row;  // the lowest batch row with a NaN probability, or -1
    int64_t batch, length, slots;
};

namespace cpu {
template <class T>
void attention_select(const AttentionSelect<T>& a);
template <class T>
void attention_select_next(const AttentionSelectNext<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void attention_select(const AttentionSelect<T>& a);
}  // namespace cuda

}  // namespace sieve
