#include <algorithm>
#include <cmath>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/quantization/formats.h"
#include "framework/quantization/quantization_kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t elements_a_thread = 1 << 14;

// y H / sqrt(n) in place, by butterflies: log2(n) passes of sums and differences.
SIEVE_INLINE void rotate(float* __restrict y, int64_t width, float rotation) {
    for (int64_t half = 1; half < width; half *= 2)
        for (int64_t first = 0; first < width; first += 2 * half)
            for (int64_t i = first; i < first + half; ++i) {
                const float a = y[i], b = y[i + half];
                y[i] = a + b;
                y[i + half] = a - b;
            }
    for (int64_t i = 0; i < width; ++i) y[i] *= rotation;
}

SIEVE_INLINE void encode(const float* __restrict y, int64_t width, RowFormat format, const RowScale& scale,
                         uint8_t* __restrict codes) {
    if (scale.divisor == 0)
        std::fill(codes, codes + width, uint8_t(0));
    else if (format == RowFormat::fp8)
        for (int64_t i = 0; i < width; ++i) codes[i] = encode_e4m3(y[i] * scale.divisor);
    else
        for (int64_t i = 0; i < width; ++i) codes[i] = encode_int8(y[i], scale.divisor);
}

SIEVE_CLONES void quantize(const QuantizeRows& a, int64_t begin, int64_t end) {
    alignas(64) float y[most_quantized];
    for (int64_t row = begin; row < end; ++row) {
        std::copy(a.x + row * a.width, a.x + (row + 1) * a.width, y);
        if (a.rotation != 0) rotate(y, a.width, a.rotation);
        uint32_t largest = 0;
        for (int64_t i = 0; i < a.width; ++i) largest = std::max(largest, magnitude_bits(y[i]));
        const RowScale scale = row_scale(largest, a.format);
        a.scales[row] = scale.scale;
        encode(y, a.width, a.format, scale, a.codes + row * a.width);
    }
}

SIEVE_CLONES void decode(const DecodeRows& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
        const uint8_t* __restrict codes = a.codes + row * a.width;
        float* __restrict values = a.values + row * a.width;
        if (a.format == RowFormat::fp8) {
            const float scale = a.scales[row];
            for (int64_t i = 0; i < a.width; ++i) values[i] = decode_e4m3(codes[i]) * scale;
        } else {
            for (int64_t i = 0; i < a.width; ++i)
                values[i] = static_cast<float>(static_cast<int8_t>(codes[i]));
        }
    }
}

SIEVE_CLONES void round_range(const float* __restrict x, float* __restrict y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) y[i] = nearest_bf16(x[i]);
}

int64_t rows_a_thread(int64_t width) {
    return elements_a_thread / std::max<int64_t>(width, 1) + 1;
}

}  // namespace

void quantize_rows(const QuantizeRows& a) {
    parallel_for(a.rows, rows_a_thread(a.width),
                 [&](int64_t begin, int64_t end) { quantize(a, begin, end); });
}

void decode_rows(const DecodeRows& a) {
    parallel_for(a.rows, rows_a_thread(a.width), [&](int64_t begin, int64_t end) { decode(a, begin, end); });
}

void round_to_bf16(const RoundToBf16& a) {
    parallel_for(a.count, elements_a_thread,
                 [&](int64_t begin, int64_t end) { round_range(a.x + begin, a.y + begin, end - begin); });
}

void times_scales(const TimesScales& a) {
    parallel_for(a.count, elements_a_thread, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) a.y[i] = a.a[i] * a.b[i];
    });
}

}  // namespace sieve::cpu
