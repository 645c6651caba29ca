#include "framework/ops/quantize_rows/quantize_rows.h"

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/core/error.h"
#include "framework/quantization/formats.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// What a code means, from the format's definition alone.
double e4m3_value(int code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    if (exponent == 15 && mantissa == 7) return not_a_number;
    const double size =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
    return code & 128 ? -size : size;
}

// The nearest of all numbers of x's sign; of two as near, the one with an even mantissa.
int nearest_e4m3(double x) {
    int best = -1;
    for (int code = std::signbit(x) ? 128 : 0, end = code + 127; code < end; ++code) {
        const double distance = std::abs(e4m3_value(code) - x);
        const double least = best < 0 ? infinity : std::abs(e4m3_value(best) - x);
        if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    return best;
}

// H[i][j] / sqrt(n) times x, in double. H's sign is the parity of the bits that i and j share.
std::vector<double> slowly_rotated(const float* x, int64_t n) {
    std::vector<double> y(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < n; ++j) sum += std::popcount(static_cast<uint64_t>(i & j)) % 2 ? -x[j] : x[j];
        y[static_cast<size_t>(i)] = sum / std::sqrt(static_cast<double>(n));
    }
    return y;
}

Tensor tensor_of(const std::vector<float>& values, const Shape& shape) {
    const Tensor x = Tensor::empty(shape, DType::float32);
    std::copy(values.begin(), values.end(), x.data<float>());
    return x;
}

QuantizedRows on_cpu(const QuantizedRows& rows) {
    return {rows.codes.to(Device{}), rows.scales.to(Device{})};
}

// Values times scales against the slow rotation: no further than half a step of the format.
void check_row(const float* x, int64_t n, RowFormat format, const uint8_t* codes, float scale, bool rotated) {
    const std::vector<double> y = rotated ? slowly_rotated(x, n) : std::vector<double>(x, x + n);
    double largest = 0;
    for (const double v : y) largest = std::max(largest, std::abs(v));
    const double slack = 1e-5 * largest;
    if (format == RowFormat::int8) {
        CHECK(std::abs(scale * 127.0 - largest) <= slack);
    } else {
        int exponent;
        CHECK(std::frexp(scale, &exponent) == 0.5);
        CHECK(largest - slack <= 448.0 * scale);
        CHECK(largest + slack > 224.0 * scale);
    }
    for (int64_t i = 0; i < n; ++i) {
        const double v = y[static_cast<size_t>(i)];
        const int8_t integer = static_cast<int8_t>(codes[i]);
        const double value = format == RowFormat::int8 ? integer : e4m3_value(codes[i]);
        const double step =
            format == RowFormat::int8 ? 0.5 : std::max(std::abs(value) / 16, std::ldexp(1, -10));
        CHECK(std::abs(value * scale - v) <= step * scale * 1.07 + slack);
    }
}

}  // namespace

TEST_CASE("quantize_rows: E4M3 is the nearest of its 253 numbers, ties to even") {
    for (int code = 0; code < 256; ++code) {
        const double value = e4m3_value(code);
        const float decoded = decode_e4m3(static_cast<uint8_t>(code));
        if (std::isnan(value)) {
            CHECK(std::isnan(decoded));
            continue;
        }
        CHECK(decoded == value);
        CHECK(std::signbit(decoded) == std::signbit(value));
        CHECK(encode_e4m3(decoded) == code);
    }
    for (int code = 0; code + 1 < 0x7f; ++code) {  // around the middles of neighbours
        const float middle = static_cast<float>((e4m3_value(code) + e4m3_value(code + 1)) / 2);
        for (const float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1000.0f)}) {
            INFO(x);
            CHECK(encode_e4m3(x) == nearest_e4m3(x));
            CHECK(encode_e4m3(-x) == nearest_e4m3(-x));
        }
    }
    const Tensor many = random_normal({4000}, 1, DType::float32);
    for (int64_t i = 0; i < many.numel(); ++i)
        for (const float size : {1e-3f, 1.0f, 200.0f}) {
            const float x = many.data<float>()[i] * size;
            CHECK(encode_e4m3(x) == nearest_e4m3(x));
        }
    for (const float x : {449.0f, 464.0f, 1e30f, infinity}) {
        CHECK(encode_e4m3(x) == 0x7e);
        CHECK(encode_e4m3(-x) == 0xfe);
    }
    CHECK(encode_e4m3(not_a_number) == 0x7f);
    CHECK(encode_e4m3(0.0f) == 0);
    CHECK(encode_e4m3(std::numeric_limits<float>::denorm_min()) == 0);
}

DEVICE_TEST_CASE("quantize_rows: codes and scales against the formula", device) {
    for (const int64_t width : {1, 2, 4, 8, 32, 64, 128, 256})
        for (const RowFormat format : {RowFormat::fp8, RowFormat::int8})
            for (const double size : {1e-12, 1.0, 1e12}) {
                INFO("width " << width << " format " << static_cast<int>(format) << " size " << size);
                const Tensor x = random_normal({5, width}, 2, DType::float32, size);
                const QuantizedRows rows = on_cpu(quantize_rows(x.to(device), format));
                for (int64_t r = 0; r < 5; ++r)
                    check_row(x.data<float>() + r * width, width, format,
                              rows.codes.data<uint8_t>() + r * width, rows.scales.data<float>()[r], true);
            }
    for (const int64_t width : {3, 5, 33, 100}) {
        const Tensor x = random_normal({4, width}, 3, DType::float32);
        const QuantizedRows rows = on_cpu(quantize_rows(x.to(device), RowFormat::int8));
        for (int64_t r = 0; r < 4; ++r)
            check_row(x.data<float>() + r * width, width, RowFormat::int8,
                      rows.codes.data<uint8_t>() + r * width, rows.scales.data<float>()[r], false);
    }
}

DEVICE_TEST_CASE("quantize_rows: fp8 takes the least scale that fits, int8 its largest element to 127",
                 device) {
    // One dim: the rotation changes nothing.
    const std::vector<float> values{448, 449, 224, -225, 1, 3.5f, 0x1p-126f, 0x1p-149f, -3e38f};
    const std::vector<float> scales{1, 2, 0.5f, 1, 0x1p-8f, 0x1p-7f, 0x1p-126f, 0x1p-126f, 0x1p120f};
    const auto count = static_cast<int64_t>(values.size());
    const Tensor x = tensor_of(values, {count, 1}).to(device);
    const QuantizedRows rows = on_cpu(quantize_rows(x, RowFormat::fp8));
    for (size_t i = 0; i < values.size(); ++i) {
        INFO(values[i]);
        CHECK(rows.scales.data<float>()[i] == scales[i]);
        CHECK(rows.codes.data<uint8_t>()[i] == nearest_e4m3(static_cast<double>(values[i]) / scales[i]));
    }
    const QuantizedRows integers = on_cpu(quantize_rows(x, RowFormat::int8));
    for (size_t i = 0; i < values.size(); ++i) {
        const bool tiny = std::abs(values[i]) < 127 * 0x1p-126f;
        CHECK(static_cast<int8_t>(integers.codes.data<uint8_t>()[i]) == (tiny            ? 0
                                                                         : values[i] < 0 ? -127
                                                                                         : 127));
        CHECK(integers.scales.data<float>()[i] == (tiny ? 0 : std::abs(values[i]) / 127));
    }
}

DEVICE_TEST_CASE("quantize_rows: int8 ties go to the even integer", device) {
    const std::vector<float> values{127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -126.5f};
    const std::vector<int> codes{127, 0, 2, 2, 0, -2, -126};
    const QuantizedRows rows = on_cpu(quantize_rows(tensor_of(values, {1, 7}).to(device), RowFormat::int8));
    CHECK(rows.scales.data<float>()[0] == 1);
    for (size_t i = 0; i < codes.size(); ++i)
        CHECK(static_cast<int8_t>(rows.codes.data<uint8_t>()[i]) == codes[i]);
}

DEVICE_TEST_CASE("quantize_rows: dot products of rotated rows are those of the rows", device) {
    for (const int64_t width : {2, 16, 64}) {
        const Tensor x = random_normal({2, width}, 5, DType::float32);
        const float *a = x.data<float>(), *b = a + width;
        const double want = std::inner_product(a, a + width, b, 0.0);
        const double size =
            std::sqrt(std::inner_product(a, a + width, a, 0.0) * std::inner_product(b, b + width, b, 0.0));
        const QuantizedRows rows = quantize_rows(x.to(device), RowFormat::fp8);
        const Tensor y = fp8_values(rows).to(Device{});
        const float *c = y.data<float>(), *d = c + width;
        CHECK(std::abs(std::inner_product(c, c + width, d, 0.0) - want) < 0.07 * size);
        const QuantizedRows fine = on_cpu(quantize_rows(x.to(device), RowFormat::int8));
        const Tensor z = int8_values(fine);
        const float *e = z.data<float>(), *f = e + width;
        const double scale = static_cast<double>(fine.scales.data<float>()[0]) * fine.scales.data<float>()[1];
        CHECK(std::abs(std::inner_product(e, e + width, f, 0.0) * scale - want) < 0.01 * size);
    }
}

DEVICE_TEST_CASE("quantize_rows: rows of zeros, infinities and NaN", device) {
    std::vector<float> values(6 * 4, 1.0f);
    for (int i = 0; i < 4; ++i) values[static_cast<size_t>(i)] = i % 2 ? 0.0f : -0.0f;
    values[5] = infinity;
    values[10] = -infinity;
    values[15] = not_a_number;
    for (int i = 16; i < 20; ++i) values[static_cast<size_t>(i)] = 3e38f;  // the rotation overflows
    const Tensor x = tensor_of(values, {6, 4});
    for (const RowFormat format : {RowFormat::fp8, RowFormat::int8}) {
        const QuantizedRows rows = on_cpu(quantize_rows(x.to(device), format));
        const float* scales = rows.scales.data<float>();
        CHECK(scales[0] == 0);
        for (int r = 1; r < 5; ++r) CHECK(std::isnan(scales[r]));
        CHECK(scales[5] > 0);
        for (int i = 0; i < 20; ++i) CHECK((rows.codes.data<uint8_t>()[i] & 0x7f) == 0);
    }
    const Tensor bad = fp8_values(quantize_rows(x.to(device), RowFormat::fp8)).to(Device{});
    CHECK(bad.data<float>()[0] == 0);
    for (int i = 4; i < 20; ++i) CHECK(std::isnan(bad.data<float>()[i]));
}

DEVICE_TEST_CASE("quantize_rows: every device has the CPU's bits", device) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{0, 4},
                                      {1, 1},
                                      {3, 0},
                                      {7, 32},
                                      {13, 64},
                                      {9, 128},
                                      {2, 1024},
                                      {6, 33}}) {
        const Tensor x = random_normal({rows, width}, 7, DType::float32);
        for (const RowFormat format : {RowFormat::fp8, RowFormat::int8}) {
            if (format == RowFormat::fp8 && (width == 33 || width == 0)) continue;
            const QuantizedRows want = quantize_rows(x, format), got = quantize_rows(x.to(device), format);
            CHECK(bit_identical(got.codes, want.codes));
            CHECK(bit_identical(got.scales, want.scales));
            const auto values = format == RowFormat::fp8 ? fp8_values : int8_values;
            CHECK(bit_identical(values(got), values(want)));
        }
        CHECK(bit_identical(bf16_values(x.to(device)), bf16_values(x)));
    }
}

DEVICE_TEST_CASE("bf16_values: nearest, ties to even", device) {
    const std::vector<float> values{1,     1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1p-8f + 0x1p-20f,
                                    -0.0f, 3.4e38f,     not_a_number};
    const std::vector<float> want{1, 1, 1 + 0x1p-6f, 1 + 0x1p-7f, -0.0f, infinity, not_a_number};
    const Tensor y = bf16_values(tensor_of(values, {7}).to(device)).to(Device{});
    for (size_t i = 0; i + 1 < want.size(); ++i) {
        CHECK(y.data<float>()[i] == want[i]);
        CHECK(std::signbit(y.data<float>()[i]) == std::signbit(want[i]));
    }
    CHECK(std::isnan(y.data<float>()[6]));
}

TEST_CASE("quantize_rows: errors") {
    check_error(
        "quantize_rows: x is [2,24], want rows of a power of two: fp8 rotates them by a Hadamard matrix", [] {
            quantize_rows(Tensor::zeros({2, 24}, DType::float32), RowFormat::fp8);
        });
    check_error("quantize_rows: x is [2,1025], want rows of at most 1024", [] {
        quantize_rows(Tensor::zeros({2, 1025}, DType::float32), RowFormat::int8);
    });
    check_error("quantize_rows: x is float64, want float32", [] {
        quantize_rows(Tensor::zeros({2, 4}, DType::float64), RowFormat::int8);
    });
    check_error("bf16_values: x is float64, want float32",
                [] { bf16_values(Tensor::zeros({2}, DType::float64)); });
    check_error("times_scales: b is [3], want [2], the shape of a",
                [] { times_scales(Tensor::zeros({2}, DType::float32), Tensor::zeros({3}, DType::float32)); });
}
