// Private to this room.
// Exact dot products of int8 rows: the inner loop of the int8 indexer.
//
//   x[r][s] = sum_i q[r][i] k[s][i]     as int32; |q|, |k| <= 127
//
// Keys come in panels of 16, four dims of a key side by side: panel [groups][16 keys][4 dims], groups of four
// dims, zero behind the last dim and key. Integer sums are exact, so every kernel gives the same bits.
//
//   vnni   one vpdpbusd for 16 keys x 4 dims. It wants one unsigned operand: q + 128, and 128 sum(k) less
//   avx2   vpmaddubsw (|q| times k with q's sign: pairs of at most 2 * 127^2, which int16 holds), vpmaddwd
//   plain  loops
#pragma once

#include <cstdint>

namespace sieve::cpu {

constexpr int64_t int8_panel_keys = 16;

enum class Int8Kernel { plain, avx2, vnni };

// Of this processor and compiler; the last is the fastest.
bool is_available(Int8Kernel kernel);
Int8Kernel fastest_int8_kernel();

struct Int8Dots {
    const int8_t* q;  // [rows, 4 * groups]
    const int8_t* k;  // one panel
    int32_t* x;       // [rows, 16], 64-byte aligned
    int64_t rows, groups;
};
void int8_dots(Int8Kernel kernel, const Int8Dots& a);

}  // namespace sieve::cpu
