// A Selection (selection.h) as kernels read it: the one view of selected keys.
#pragma once

#include <cstdint>

namespace sieve {

// Which keys each row attends to, rows [batch, length]. Both indices null: row t attends to 0..t.
struct SelectedKeys {
    const int32_t* indices = nullptr;  // [rows, slots], ascending, each <= t
    // The same in half the memory, for backwards on the CPU; then `indices` is null.
    const uint16_t* short_indices = nullptr;
    const int32_t* counts = nullptr;  // [rows], 0 <= count <= min(slots, t + 1)
    int64_t slots = 0;

    // The view whose row 0 is row `row` of this one.
    SelectedKeys from_row(int64_t row) const {
        return {.indices = indices ? indices + row * slots : nullptr,
                .short_indices = short_indices ? short_indices + row * slots : nullptr,
                .counts = counts ? counts + row : nullptr,
                .slots = slots};
    }
};

}  // namespace sieve
