// What the ops that make or read a Selection share: making one, checking one, and the kernels' view of it.
#pragma once

#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/selection/selection.h"
#include "framework/core/dispatch.h"

namespace sieve {

// Room for the last `queries` of `keys` tokens. Throws when top_k < 1.
Selection empty_selection(const char* op, int64_t batch, int64_t queries, int64_t keys, int64_t top_k,
                          Device device);

// `bad_row` = b * length + t of a row with a NaN score, or -1. Throws (kind diverged) for a bad row.
void check_no_nan(const char* op, int64_t bad_row, int64_t length);

// The selection of the last `queries` of `length` tokens of the batch rows of q. Throws when shapes or dtypes
// are others or it lies elsewhere than q, and on the CPU when a count is not in [0, min(slots, t + 1)], a key
// of a row is not in [0, t], or its keys do not ascend.
void check_selection(const char* op, const Selection& selection, const FirstOperand& q, int64_t queries,
                     int64_t length);

inline SelectedKeys selected_keys(const Selection& selection) {
    return {.indices = selection.indices.data<int32_t>(),
            .counts = selection.counts.data<int32_t>(),
            .slots = selection.indices.dim(2)};
}

}  // namespace sieve
