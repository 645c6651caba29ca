// `operator new` that fails when a test asks for it: everything beside tensors, which take their memory by
// core/allocator.h and have fail_allocation_after.
#pragma once

#include <cstdint>

namespace sieve::testing {

// False in builds with sanitizers, which have their own: then the rest does nothing.
bool can_fail_new();
// The n-th call from now on throws std::bad_alloc (1: the next one; 0: none).
void fail_new_after(int64_t n);
// Calls since the program began.
int64_t calls_of_new();

}  // namespace sieve::testing
