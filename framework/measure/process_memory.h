// What the whole process takes of the machine's memory, beside the tensors: the program and its libraries,
// text and tokens, scratch of matrix products, what allocators keep.
#pragma once

#include <cstdint>

namespace sieve {

// The most that was resident at one time since the program began.
int64_t peak_process_bytes();
// Since this call from now on, where the system can do that; elsewhere nothing changes.
void reset_peak_process_bytes();

}  // namespace sieve
