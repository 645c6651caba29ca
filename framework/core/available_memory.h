// How much memory the process may still take.
#pragma once

#include <cstdint>

namespace sieve {

// Bytes, at least 0: what the system has free or can free, and what the control group and the limit of the
// address space (ulimit -v) leave of it.
int64_t available_memory();

}  // namespace sieve
