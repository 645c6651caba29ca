#include "tests/fuzz/memory_meter.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "framework/core/allocator.h"

namespace {

std::atomic<int64_t> heap_bytes{0}, heap_peak{0};

void* count(void* pointer) {
    if (!pointer) throw std::bad_alloc();
    const int64_t now = heap_bytes += static_cast<int64_t>(malloc_usable_size(pointer));
    for (int64_t peak = heap_peak; now > peak && !heap_peak.compare_exchange_weak(peak, now);) {
    }
    return pointer;
}

void release(void* pointer) {
    if (pointer) heap_bytes -= static_cast<int64_t>(malloc_usable_size(pointer));
    std::free(pointer);
}

}  // namespace

// The array forms call these. Under a sanitizer, whose own forms call nothing of ours, all that is freed here must
// have been made here.
void* operator new(size_t size) {
    return count(std::malloc(size ? size : 1));
}
void* operator new[](size_t size) {
    return operator new(size);
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    try {
        return operator new(size);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void* operator new[](size_t size, const std::nothrow_t& none) noexcept {
    return operator new(size, none);
}
void* operator new(size_t size, std::align_val_t alignment) {
    const auto whole = static_cast<size_t>(alignment);
    return count(std::aligned_alloc(whole, (size + whole - 1) / whole * whole));
}
void operator delete(void* pointer) noexcept {
    release(pointer);
}
void operator delete[](void* pointer) noexcept {
    release(pointer);
}
void operator delete[](void* pointer, size_t) noexcept {
    release(pointer);
}
void operator delete(void* pointer, size_t) noexcept {
    release(pointer);
}
void operator delete(void* pointer, std::align_val_t) noexcept {
    release(pointer);
}
void operator delete(void* pointer, size_t, std::align_val_t) noexcept {
    release(pointer);
}

namespace sieve::fuzz {

MemoryMeter::MemoryMeter() : heap_before_(heap_bytes), tensors_before_(memory_stats().live_bytes) {
    heap_peak = heap_before_;
    reset_peak_memory();
}

int64_t MemoryMeter::peak() const {
    return heap_peak - heap_before_ + memory_stats().peak_bytes - tensors_before_;
}

}  // namespace sieve::fuzz
