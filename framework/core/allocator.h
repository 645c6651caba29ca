// The caching allocator behind every tensor, one a device. A steady training step asks for the same sizes
// again and again: freed blocks are kept and handed out anew, so such a step makes no system call and faults
// in no page.
//
// On a CUDA device all work runs in one stream, in order. So a block that the host has freed may be handed
// out at once: whatever still reads it runs before whatever writes it next.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "framework/core/device.h"
#include "framework/core/size_kind.h"

namespace sieve {

struct MemoryStats {
    int64_t live_bytes = 0;      // handed out now (as asked for)
    int64_t peak_bytes = 0;      // highest live_bytes since reset_peak
    int64_t reserved_bytes = 0;  // taken from the system: live blocks and cached ones
    int64_t system_calls = 0;    // how often a request could not be served from the cache
};

// 64-byte aligned (256 on CUDA), uninitialised. Throws Error(out_of_memory) with the size, the largest
// consumers and which sizes to lower.
void* allocate(int64_t bytes, Device device);
void deallocate(void* pointer, int64_t bytes, Device device) noexcept;

MemoryStats memory_stats(Device device = {});
void reset_peak_memory(Device device = {});  // peak_bytes = live_bytes
void release_cached_memory(Device device = {});

// Refuses to hold more than this many reserved bytes (0: no limit).
void set_memory_limit(int64_t bytes, Device device = {});
// Test hook: the n-th allocation from now fails (1: the next one; 0: none).
void fail_allocation_after(int64_t n, Device device = {});

// What memory is used for, and the sizes that make it less: for the report when there is no more.
struct MemoryUse {
    const char* what;                 // "logits and loss"
    std::array<SizeKind, 3> lower{};  // the first to try first
};

// While one of these lives, this thread's allocations count as `use`, whose text must outlive the program.
class MemoryScope {
  public:
    explicit MemoryScope(MemoryUse use);
    ~MemoryScope();
    MemoryScope(const MemoryScope&) = delete;
    MemoryScope& operator=(const MemoryScope&) = delete;

  private:
    MemoryUse before_;
};

// A set of blocks that nobody else is given: a recorded CUDA graph writes to the addresses it was recorded
// with whenever it runs, so no other tensor may lie there while the graph exists. When the pool goes, its
// blocks go back to the common cache.
class MemoryPool {
  public:
    explicit MemoryPool(Device device);
    ~MemoryPool();
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;

    // While one of these lives, this thread's allocations on the pool's device come from the pool.
    class Scope {
      public:
        explicit Scope(const MemoryPool& pool);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        Device device_;
        int before_;
    };

  private:
    Device device_;
    int id_;
};

}  // namespace sieve
