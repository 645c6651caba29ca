// The caching allocator behind every tensor. A steady training step asks for the same sizes again and again:
// freed blocks are kept and handed out anew, so such a step makes no system call and faults in no page.
#pragma once

#include <cstddef>
#include <cstdint>

#include "framework/core/device.h"

namespace sieve {

struct MemoryStats {
    int64_t live_bytes = 0;      // handed out now (as asked for)
    int64_t peak_bytes = 0;      // highest live_bytes since reset_peak
    int64_t reserved_bytes = 0;  // taken from the system: live blocks and cached ones
    int64_t system_calls = 0;    // how often a request could not be served from the cache
};

// 64-byte aligned, uninitialised. Throws Error(out_of_memory) naming the size and what is live.
void* allocate(int64_t bytes, Device device);
void deallocate(void* pointer, int64_t bytes, Device device) noexcept;

MemoryStats memory_stats(Device device = {});
void reset_peak_memory(Device device = {});  // peak_bytes = live_bytes
void release_cached_memory(Device device = {});

// Refuses to hold more than this many reserved bytes (0: no limit).
void set_memory_limit(int64_t bytes, Device device = {});
// Test hook: the n-th allocation from now fails (1: the next one; 0: none).
void fail_allocation_after(int64_t n);

}  // namespace sieve
