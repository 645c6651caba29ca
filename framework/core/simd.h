// Run-time dispatch for plain loops: a function marked SIEVE_CLONES is compiled for AVX-512, for AVX2 and for the
// baseline, and the machine's best version is picked when the program starts. Functions that it inlines are
// compiled with it; so keep the hot loop inside, and what it calls `inline`.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(SIEVE_NO_CLONES)
#define SIEVE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIEVE_CLONES
#endif
