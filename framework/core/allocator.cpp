#include "framework/core/allocator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "framework/core/error.h"

namespace sieve {
namespace {

constexpr int64_t alignment = 64;
constexpr int64_t huge_page = 2 << 20;

// Small sizes are rounded to 64 bytes, large ones to an eighth of their power of two, so that sizes which
// differ a little between steps (tokens per expert) still find each other's blocks.
int64_t rounded(int64_t bytes) {
    if (bytes <= 0) return alignment;
    int64_t step = alignment;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

void* system_allocate(int64_t bytes) {
    if (bytes < huge_page) return std::aligned_alloc(alignment, static_cast<size_t>(bytes));
    const int64_t whole = (bytes + huge_page - 1) / huge_page * huge_page;
    void* pointer = std::aligned_alloc(huge_page, static_cast<size_t>(whole));
    if (pointer)
        madvise(pointer, static_cast<size_t>(whole), MADV_HUGEPAGE);  // fewer TLB misses; a hint only
    return pointer;
}

class CachingAllocator {
  public:
    void* allocate(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        const int64_t size = rounded(bytes);
        void* pointer = nullptr;
        if (fail_after_ > 0 && --fail_after_ == 0) throw_out_of_memory(bytes);
        auto cached = free_.find(size);
        if (cached != free_.end() && !cached->second.empty()) {
            pointer = cached->second.back();
            cached->second.pop_back();
        } else {
            pointer = allocate_from_system(size, bytes);
        }
        stats_.live_bytes += bytes;
        if (stats_.live_bytes > stats_.peak_bytes) stats_.peak_bytes = stats_.live_bytes;
        return pointer;
    }

    void deallocate(void* pointer, int64_t bytes) noexcept {
        const std::lock_guard lock(mutex_);
        stats_.live_bytes -= bytes;
        const int64_t size = rounded(bytes);
        try {
            free_[size].push_back(pointer);
        } catch (...) {
            std::free(pointer);
            stats_.reserved_bytes -= size;
        }
    }

    void release_cached() {
        const std::lock_guard lock(mutex_);
        release_cached_locked();
    }

    MemoryStats stats() {
        const std::lock_guard lock(mutex_);
        return stats_;
    }

    void reset_peak() {
        const std::lock_guard lock(mutex_);
        stats_.peak_bytes = stats_.live_bytes;
    }

    void set_limit(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        limit_ = bytes;
    }

    void fail_after(int64_t n) {
        const std::lock_guard lock(mutex_);
        fail_after_ = n;
    }

  private:
    void* allocate_from_system(int64_t size, int64_t asked) {
        if (limit_ > 0 && stats_.reserved_bytes + size > limit_) release_cached_locked();
        if (limit_ > 0 && stats_.reserved_bytes + size > limit_) throw_out_of_memory(asked);
        void* pointer = system_allocate(size);
        if (!pointer) {
            release_cached_locked();
            pointer = system_allocate(size);
        }
        if (!pointer) throw_out_of_memory(asked);
        stats_.reserved_bytes += size;
        ++stats_.system_calls;
        return pointer;
    }

    void release_cached_locked() {
        for (auto& [size, blocks] : free_) {
            for (void* block : blocks) std::free(block);
            stats_.reserved_bytes -= size * static_cast<int64_t>(blocks.size());
        }
        free_.clear();
    }

    [[noreturn]] void throw_out_of_memory(int64_t bytes) const {
        throw Error(ErrorKind::out_of_memory,
                    "out of memory: cannot allocate " + std::to_string(bytes >> 10) + " KiB on the cpu (" +
                        std::to_string(stats_.live_bytes >> 20) + " MiB in tensors now, limit " +
                        (limit_ ? std::to_string(limit_ >> 20) + " MiB" : std::string("none set")) +
                        "); lower batch_size, max_seq_len or d_model");
    }

    std::mutex mutex_;
    std::map<int64_t, std::vector<void*>> free_;
    MemoryStats stats_;
    int64_t limit_ = 0;
    int64_t fail_after_ = 0;
};

// Never destroyed: tensors with static lifetime may be released after any static destructor has run.
CachingAllocator& cpu_allocator() {
    static auto* allocator = new CachingAllocator;
    return *allocator;
}

CachingAllocator& allocator_of(Device device) {
    if (!device.is_cpu()) fail("device " + to_string(device) + ": this build has no CUDA; use the cpu");
    return cpu_allocator();
}

}  // namespace

void* allocate(int64_t bytes, Device device) {
    return allocator_of(device).allocate(bytes);
}

void deallocate(void* pointer, int64_t bytes, Device device) noexcept {
    if (device.is_cpu()) cpu_allocator().deallocate(pointer, bytes);
}

MemoryStats memory_stats(Device device) {
    return allocator_of(device).stats();
}
void reset_peak_memory(Device device) {
    allocator_of(device).reset_peak();
}
void release_cached_memory(Device device) {
    allocator_of(device).release_cached();
}
void set_memory_limit(int64_t bytes, Device device) {
    allocator_of(device).set_limit(bytes);
}
void fail_allocation_after(int64_t n) {
    cpu_allocator().fail_after(n);
}

}  // namespace sieve
