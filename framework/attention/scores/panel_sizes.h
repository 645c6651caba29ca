// Private to this room.
#pragma once

#include <cstdint>

namespace sieve::cpu {

// Rows are padded to whole lines of 64 bytes and keys are handled in panels of four lines, whatever the width
// of the machine's vectors.
template <class T>
constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t panel_width = 4 * lanes<T>;

}  // namespace sieve::cpu
