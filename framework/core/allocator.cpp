#include "framework/core/allocator.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"

namespace sieve {
namespace {

constexpr int64_t alignment = 64;
constexpr int64_t huge_page = 2 << 20;
constexpr int64_t most_bytes = int64_t{1} << 56;  // beyond any machine; roundings of less do not overflow
constexpr int common_pool = 0;

thread_local MemoryUse current_use{"other tensors", {SizeKind::batch, SizeKind::length}};
thread_local std::array<int, 2> current_pool{common_pool, common_pool};  // by device type

int& pool_of(Device device) {
    return current_pool[static_cast<size_t>(device.type)];
}

// Small sizes are rounded to 64 bytes, large ones to an eighth of their power of two, so that sizes which
// differ a little between steps (tokens per expert) still find each other's blocks.
int64_t rounded(int64_t bytes) {
    if (bytes <= 0) return alignment;
    int64_t step = alignment;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

void* host_allocate(int64_t bytes) {
    if (bytes < huge_page) return std::aligned_alloc(alignment, static_cast<size_t>(bytes));
    const int64_t whole = (bytes + huge_page - 1) / huge_page * huge_page;
    void* pointer = std::aligned_alloc(huge_page, static_cast<size_t>(whole));
    if (pointer)
        madvise(pointer, static_cast<size_t>(whole), MADV_HUGEPAGE);  // fewer TLB misses; a hint only
    return pointer;
}

void host_free(void* pointer) noexcept {
    std::free(pointer);
}

// Where blocks come from.
struct System {
    Device device;
    void* (*take)(int64_t bytes);  // null when there is no more
    void (*give_back)(void* pointer) noexcept;
};

std::string mebibytes(int64_t bytes) {
    return std::to_string(bytes >> 20) + " MiB";
}

class CachingAllocator {
  public:
    explicit CachingAllocator(System system) : system_(system) {}

    void* allocate(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        if (bytes > most_bytes) throw_out_of_memory(bytes);
        const int64_t size = rounded(bytes);
        const int pool = pool_of(system_.device);
        if (fail_after_ > 0 && --fail_after_ == 0) throw_out_of_memory(bytes);
        std::vector<void*>& cached = free_[{pool, size}];
        if (cached.empty()) {
            cached.reserve(1);
            cached.push_back(allocate_from_system(size, bytes));
        }
        void* pointer = cached.back();
        live_[pointer] = {bytes, pool, current_use};  // may throw: the block is in the cache until then
        cached.pop_back();
        stats_.live_bytes += bytes;
        stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
        return pointer;
    }

    void deallocate(void* pointer, int64_t bytes) noexcept {
        const std::lock_guard lock(mutex_);
        stats_.live_bytes -= bytes;
        const int64_t size = rounded(bytes);
        const auto block = live_.find(pointer);
        const int pool = block->second.pool;
        live_.erase(block);
        try {
            free_[{pool, size}].push_back(pointer);
        } catch (...) {  // no memory to remember the block by
            system_.give_back(pointer);
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

    int new_pool() {
        const std::lock_guard lock(mutex_);
        return next_pool_++;
    }

    void dissolve_pool(int pool) {
        const std::lock_guard lock(mutex_);
        for (auto& [key, blocks] : free_) {
            if (key.first != pool) continue;
            std::vector<void*>& common = free_[{common_pool, key.second}];
            common.insert(common.end(), blocks.begin(), blocks.end());
            blocks.clear();
        }
        for (auto& [pointer, block] : live_)
            if (block.pool == pool) block.pool = common_pool;
    }

  private:
    struct Block {
        int64_t bytes;
        int pool;
        MemoryUse use;
    };

    void* allocate_from_system(int64_t size, int64_t asked) {
        if (limit_ > 0 && stats_.reserved_bytes + size > limit_) release_cached_locked();
        if (limit_ > 0 && stats_.reserved_bytes + size > limit_) throw_out_of_memory(asked);
        void* pointer = system_.take(size);
        if (!pointer) {
            release_cached_locked();
            pointer = system_.take(size);
        }
        if (!pointer) throw_out_of_memory(asked);
        stats_.reserved_bytes += size;
        ++stats_.system_calls;
        return pointer;
    }

    // The pools' cached blocks stay: a graph that is still to run may use them.
    void release_cached_locked() {
        for (auto& [key, blocks] : free_) {
            if (key.first != common_pool) continue;
            for (void* block : blocks) system_.give_back(block);
            stats_.reserved_bytes -= key.second * static_cast<int64_t>(blocks.size());
            blocks.clear();
        }
    }

    // The uses that hold most now, the largest first.
    std::vector<std::pair<int64_t, MemoryUse>> consumers() const {
        std::map<std::string, std::pair<int64_t, MemoryUse>> by_use;
        for (const auto& [pointer, block] : live_) {
            auto& entry = by_use[block.use.what];
            entry.first += block.bytes;
            entry.second = block.use;
        }
        std::vector<std::pair<int64_t, MemoryUse>> sorted;
        sorted.reserve(by_use.size());
        for (const auto& [what, entry] : by_use) sorted.push_back(entry);
        std::stable_sort(sorted.begin(), sorted.end(),
                         [](const auto& a, const auto& b) { return a.first > b.first; });
        return sorted;
    }

    [[noreturn]] void throw_out_of_memory(int64_t bytes) const {
        std::string message = "out of memory: cannot allocate " + std::to_string(bytes >> 10) + " KiB for " +
                              current_use.what + " on " + to_string(system_.device) + " (" +
                              mebibytes(stats_.live_bytes) + " in tensors now, limit " +
                              (limit_ ? mebibytes(limit_) : std::string("none set")) + ")";
        const auto largest = consumers();
        for (size_t i = 0; i < std::min<size_t>(4, largest.size()); ++i)
            message += (i ? ", " : "; most is held by ") + std::string(largest[i].second.what) + " " +
                       mebibytes(largest[i].first);
        const MemoryUse& first = largest.empty() ? current_use : largest[0].second;
        std::vector<SizeKind> lower(first.lower.begin(), first.lower.end());
        std::erase(lower, SizeKind::none);
        if (!lower.empty()) message += "; lower " + one_of(lower);
        throw Error(ErrorKind::out_of_memory, message, lower);
    }

    System system_;
    std::mutex mutex_;
    std::map<std::pair<int, int64_t>, std::vector<void*>> free_;  // by pool and size
    std::unordered_map<void*, Block> live_;
    MemoryStats stats_;
    int64_t limit_ = 0;
    int64_t fail_after_ = 0;
    int next_pool_ = common_pool + 1;
};

// Never destroyed: tensors with static lifetime may be released after any static destructor has run.
CachingAllocator& cpu_allocator() {
    static auto* allocator = new CachingAllocator({Device{}, host_allocate, host_free});
    return *allocator;
}

CachingAllocator& cuda_allocator() {
    if (!cuda::available()) fail("device cuda: " + cuda::why_unavailable() + "; use the cpu");
    static auto* allocator = new CachingAllocator({cuda::device, cuda::device_malloc, cuda::device_free});
    return *allocator;
}

CachingAllocator& allocator_of(Device device) {
    return device.is_cpu() ? cpu_allocator() : cuda_allocator();
}

}  // namespace

void* allocate(int64_t bytes, Device device) {
    return allocator_of(device).allocate(bytes);
}

void deallocate(void* pointer, int64_t bytes, Device device) noexcept {
    allocator_of(device).deallocate(pointer, bytes);
}

MemoryStats memory_stats(Device device) {
    return allocator_of(device).stats();
}
void reset_peak_memory(Device device) {
    allocator_of(device).reset_peak();
}
void release_cached_memory(Device device) {
    allocator_of(device).release_cached();
    ::malloc_trim(0);  // what the C library keeps of them, and of everything else that was freed
}
void set_memory_limit(int64_t bytes, Device device) {
    allocator_of(device).set_limit(bytes);
}
void fail_allocation_after(int64_t n, Device device) {
    allocator_of(device).fail_after(n);
}

MemoryScope::MemoryScope(MemoryUse use) : before_(current_use) {
    current_use = use;
}
MemoryScope::~MemoryScope() {
    current_use = before_;
}

MemoryPool::MemoryPool(Device device) : device_(device), id_(allocator_of(device).new_pool()) {}
MemoryPool::~MemoryPool() {
    allocator_of(device_).dissolve_pool(id_);
}
MemoryPool::Scope::Scope(const MemoryPool& pool) : device_(pool.device_), before_(pool_of(device_)) {
    pool_of(device_) = pool.id_;
}
MemoryPool::Scope::~Scope() {
    pool_of(device_) = before_;
}

}  // namespace sieve
