#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"
#include "framework/quantization/row_format.h"

namespace sieve {

constexpr int64_t most_quantized = 1024;  // elements of a row

struct QuantizeRows {
    const float* x;  // [rows, width]
    uint8_t* codes;  // [rows, width]
    float* scales;   // [rows]
    int64_t rows, width;
    RowFormat format;
    float rotation;  // width^-0.5; 0: rows are not rotated
};

struct DecodeRows {
    const uint8_t* codes;  // [rows, width]
    const float* scales;   // [rows]; read for fp8
    float* values;         // [rows, width]
    int64_t rows, width;
    RowFormat format;
};

struct RoundToBf16 {
    const float* x;  // [count]
    float* y;        // [count]
    int64_t count;
};

struct TimesScales {
    const float* a;  // [count]
    const float* b;  // [count]
    float* y;        // [count]
    int64_t count;
};

namespace cpu {
void quantize_rows(const QuantizeRows& a);
void decode_rows(const DecodeRows& a);
void round_to_bf16(const RoundToBf16& a);
void times_scales(const TimesScales& a);
}  // namespace cpu

namespace cuda {
SIEVE_CUDA_TWIN void quantize_rows(const QuantizeRows& a);
SIEVE_CUDA_TWIN void decode_rows(const DecodeRows& a);
SIEVE_CUDA_TWIN void round_to_bf16(const RoundToBf16& a);
SIEVE_CUDA_TWIN void times_scales(const TimesScales& a);
}  // namespace cuda

}  // namespace sieve
