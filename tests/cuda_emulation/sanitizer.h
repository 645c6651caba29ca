// The address sanitizer's hooks, or nothing when it is off.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sieve::cuda_emulation {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool address_sanitizer = true;
inline void poison(const void* start, size_t bytes) {
    __asan_poison_memory_region(start, bytes);
}
inline void unpoison(const void* start, size_t bytes) {
    __asan_unpoison_memory_region(start, bytes);
}
#else
inline constexpr bool address_sanitizer = false;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

}  // namespace sieve::cuda_emulation
