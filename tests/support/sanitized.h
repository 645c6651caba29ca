// SIEVE_SANITIZED: defined in builds with the address or the thread sanitizer. GCC says so by macros, clang by features.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIEVE_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SIEVE_SANITIZED
#endif
#endif

namespace sieve::testing {

// The tests are; the programs that they start are not, and so are another build: with other instructions, of other bits.
#ifdef SIEVE_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace sieve::testing
