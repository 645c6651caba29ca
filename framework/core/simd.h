// Run-time dispatch for plain loops: a function marked SIEVE_CLONES is compiled for AVX-512, for AVX2 and for
// the baseline, and the machine's best version is picked when the program starts. Functions that it inlines
// are compiled with it; so keep the hot loop inside, and what it calls `inline`.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(SIEVE_NO_CLONES)
#define SIEVE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIEVE_CLONES
#endif

// What a clone calls must be compiled into it: a plain `inline` function that GCC leaves outside is compiled
// once, for the baseline, and every clone then runs that (8 to 20 times slower in the indexer).
#define SIEVE_INLINE inline __attribute__((always_inline))
// The same behind the parameters of a lambda: [&](int i) SIEVE_INLINE_LAMBDA { ... }
#define SIEVE_INLINE_LAMBDA __attribute__((always_inline))
