// For each key the queries that selected it: what gradients of keys are summed by, in a fixed order and
// without atomics.
#pragma once

#include "framework/attention/selection/selected_keys.h"
#include "framework/core/cuda/twin.h"
#include "framework/core/tensor.h"

namespace sieve::cuda {

// Key s of batch row b was selected in the slots entries[b, offsets[b,s] .. offsets[b,s+1]). An entry is
// t * slots + slot, and they ascend.
struct InverseSelection {
    Tensor offsets;  // int32 [B, T+1]
    Tensor entries;  // int32 [B, (T - first_row) * slots]
};

// Of the rows [first_row, T) of keys selected on the device. An index outside [0, t] is left out; of a key that a
// row names twice one slot is kept.
SIEVE_CUDA_TWIN InverseSelection invert_selection(const SelectedKeys& keys, int64_t batch, int64_t length,
                                                  int64_t first_row = 0);

}  // namespace sieve::cuda
