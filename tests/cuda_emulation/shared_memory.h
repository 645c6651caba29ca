// The shared memory of the block that runs: the __shared__ variables and the buffer of dynamic shared memory.
#pragma once

#include <cstddef>

namespace sieve::cuda_emulation {

inline constexpr size_t max_shared_bytes = 227 << 10;     // of a block, after cudaFuncSetAttribute
inline constexpr size_t default_shared_bytes = 48 << 10;  // without it

// Fills all of it with 0xFF bytes, as a new block finds contents that mean nothing.
void refill_shared_memory(size_t dynamic_bytes);
// Whether something wrote beside the dynamic shared memory. The address sanitizer finds that itself, and
// earlier.
bool red_zones_are_intact(size_t dynamic_bytes);
// Whether [pointer, pointer + bytes) lies in shared memory.
bool is_shared(const void* pointer, size_t bytes);

}  // namespace sieve::cuda_emulation
