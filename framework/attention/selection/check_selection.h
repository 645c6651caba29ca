// What the ops that make or read a Selection check.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/core/dispatch.h"

namespace sieve {

inline Selection empty_selection(const char* op, int64_t batch, int64_t length, int64_t top_k,
                                 Device device) {
    if (top_k < 1) fail(std::string(op) + ": top_k is " + std::to_string(top_k) + ", want at least 1");
    const int64_t slots = top_k < length ? top_k : length;
    return {Tensor::empty({batch, length, slots}, DType::int32, device),
            Tensor::empty({batch, length}, DType::int32, device)};
}

// `bad_row` = b * length + t of a row with a NaN score, or -1.
inline void check_no_nan(const char* op, int64_t bad_row, int64_t length) {
    if (bad_row < 0) return;
    throw Error(ErrorKind::diverged, std::string(op) + ": a score of batch row " +
                                         std::to_string(bad_row / length) + ", query " +
                                         std::to_string(bad_row % length) + " is NaN");
}

// `device`: where q is.
inline void check_selection(const char* op, const Selection& selection, int64_t batch, int64_t length,
                            Device device) {
    check_rank(op, "the selection's indices", selection.indices, 3);
    check_shape(op, "the selection's indices", selection.indices,
                Shape{batch, length, selection.indices.dim(2)});
    check_shape(op, "the selection's counts", selection.counts, Shape{batch, length});
    check_dtype(op, "the selection's indices", selection.indices, DType::int32);
    check_dtype(op, "the selection's counts", selection.counts, DType::int32);
    check_device(op, "the selection's indices", selection.indices, device, "q");
    check_device(op, "the selection's counts", selection.counts, device, "q");
}

}  // namespace sieve
