// Rows of few bits: what the low-precision indexer scores with (lightning_indexer.h).
//
//   y        = x H / sqrt(n)                H: the n x n Hadamard matrix of signs (Sylvester's), n = 2^m
//   fp8:   scale = 2^e, the least e >= -126 with max |y| <= 448 * 2^e;   code = E4M3(y / scale)
//   int8:  scale = max |y| / 127;                                        code = round(y / scale)
//
// The rotation is orthogonal, so dot products of two rotated rows are those of the rows; it spreads a few
// large elements over the row, which then loses less to one scale (QuaRot, Ashkboos et al. 2024;
// DeepSeek-V3.2's indexer does so before fp8). fp8 always rotates. int8 rotates rows whose length is a power
// of two and takes others as they are.
//
// E4M3 (OCP 8-bit floating point, "e4m3fn"): sign, 4 bits of exponent with bias 7, 3 of mantissa. Largest
// 448, smallest normal 2^-6, then multiples of 2^-9; no infinity, NaN is 0x7f. Rounding is to nearest, ties
// to even, in both formats. int8 codes are -127..127, stored as their bytes.
//
// A row of zeros has scale 0 and codes 0; so has, in int8, one with max |y| < 127 * 2^-126. A row with an
// infinity or a NaN (the rotation spreads it) has scale NaN and codes 0, so that whatever is computed from it
// is NaN. Rows do not depend on each other, and every device gives the same bits. Records nothing.
#pragma once

#include "framework/core/tensor.h"
#include "framework/quantization/row_format.h"

namespace sieve {

struct QuantizedRows {
    Tensor codes;   // uint8, x's shape
    Tensor scales;  // float32, x's shape without its last dim
};

// x [..., n] float32. Throws when n is more than 1024 or, for fp8, no power of two.
QuantizedRows quantize_rows(const Tensor& x, RowFormat format);

// The numbers that the codes stand for, float32: times the row's scale, or (int8_values) the integers alone.
Tensor fp8_values(const QuantizedRows& rows);
Tensor int8_values(const QuantizedRows& rows);

// x rounded to bfloat16 (nearest, ties to even; too large becomes infinity, NaN stays NaN), as float32.
Tensor bf16_values(const Tensor& x);

// a[i] * b[i], float32, of one shape: weights times the scales of what they weigh.
Tensor times_scales(const Tensor& a, const Tensor& b);

}  // namespace sieve
