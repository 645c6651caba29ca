// A Selection as kernels read it.
#pragma once

#include <cstdint>

namespace sieve {

// Which keys each row attends to. Both indices null: row t attends to 0..t.
struct SelectedKeys {
    const int32_t* indices = nullptr;  // [batch, length, slots], ascending, each <= t
    // The same in half the memory, for backwards on the CPU; then `indices` is null.
    const uint16_t* short_indices = nullptr;
    const int32_t* counts = nullptr;  // [batch, length], 0 <= count <= min(slots, t + 1)
    int64_t slots = 0;
    // Rows below this multiple of 32 are computed by masked tiles, the others from gathered keys.
    int64_t tiled_rows = 0;
};

}  // namespace sieve
