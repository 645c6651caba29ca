#include "tests/support/failing_new.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "tests/support/sanitized.h"

namespace sieve::testing {
namespace {

std::atomic<int64_t> fail_after{0}, calls{0};

}  // namespace

#ifdef SIEVE_SANITIZED
bool can_fail_new() {
    return false;
}
#else
bool can_fail_new() {
    return true;
}

void* allocate_or_fail(std::size_t bytes, std::size_t alignment) {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (fail_after.load(std::memory_order_relaxed) > 0 && fail_after.fetch_sub(1) == 1)
        throw std::bad_alloc();
    void* pointer = alignment <= alignof(std::max_align_t)
                        ? std::malloc(bytes ? bytes : 1)
                        : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!pointer) throw std::bad_alloc();
    return pointer;
}
#endif

void fail_new_after(int64_t n) {
    fail_after = n;
}
int64_t calls_of_new() {
    return calls;
}

}  // namespace sieve::testing

#ifndef SIEVE_SANITIZED
void* operator new(std::size_t bytes) {
    return sieve::testing::allocate_or_fail(bytes, 1);
}
void* operator new[](std::size_t bytes) {
    return sieve::testing::allocate_or_fail(bytes, 1);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return sieve::testing::allocate_or_fail(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
    return sieve::testing::allocate_or_fail(bytes, static_cast<std::size_t>(alignment));
}
// All forms, so that each pointer comes from where `delete` brings it back to.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    try {
        return sieve::testing::allocate_or_fail(bytes, 1);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept {
    return operator new(bytes, tag);
}
void operator delete(void* pointer) noexcept {
    std::free(pointer);
}
void operator delete[](void* pointer) noexcept {
    std::free(pointer);
}
void operator delete(void* pointer, std::size_t) noexcept {
    std::free(pointer);
}
void operator delete[](void* pointer, std::size_t) noexcept {
    std::free(pointer);
}
void operator delete(void* pointer, std::align_val_t) noexcept {
    std::free(pointer);
}
void operator delete[](void* pointer, std::align_val_t) noexcept {
    std::free(pointer);
}
void operator delete(void* pointer, std::size_t, std::align_val_t) noexcept {
    std::free(pointer);
}
void operator delete[](void* pointer, std::size_t, std::align_val_t) noexcept {
    std::free(pointer);
}
#endif
