// SIEVE_INLINE: must be compiled into its caller. A plain `inline` template that GCC decides not to inline
// into a function clone (framework/core/simd.h) is compiled once, for the baseline: indexer_select ran 8
// times slower so.
#pragma once

#define SIEVE_INLINE inline __attribute__((always_inline))
