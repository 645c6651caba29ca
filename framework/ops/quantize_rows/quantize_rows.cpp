#include "framework/ops/quantize_rows/quantize_rows.h"

#include <bit>
#include <cmath>

#include "framework/core/dispatch.h"
#include "framework/quantization/quantization_kernels.h"

namespace sieve {
namespace {

bool is_power_of_two(int64_t n) {
    return n > 0 && std::has_single_bit(static_cast<uint64_t>(n));
}

void check_rows(const char* op, const Tensor& x, RowFormat format) {
    if (x.rank() == 0) fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want at least one dim");
    check_dtype(op, "x", x, DType::float32);
    const int64_t width = x.dim(x.rank() - 1);
    if (width > most_quantized)
        fail(std::string(op) + ": x is " + to_string(x.shape()) + ", want rows of at most " +
             std::to_string(most_quantized));
    if (format == RowFormat::fp8 && !is_power_of_two(width))
        fail(std::string(op) + ": x is " + to_string(x.shape()) +
             ", want rows of a power of two: fp8 rotates them by a Hadamard matrix");
}

Tensor decoded(const char* op, const QuantizedRows& rows, RowFormat format) {
    const Tensor &codes = rows.codes, &scales = rows.scales;
    check_dtype(op, "codes", codes, DType::uint8);
    check_operand(op, "scales", scales, {"codes", codes}, DType::float32);
    check_shape(op, "scales", scales, codes.shape().drop_last(), "codes are " + to_string(codes.shape()));
    const Tensor values = Tensor::empty(codes.shape(), DType::float32, codes.device());
    launch(op, codes.device(), cpu::decode_rows, cuda::decode_rows,
           DecodeRows{.codes = codes.data<uint8_t>(),
                      .scales = scales.data<float>(),
                      .values = values.data<float>(),
                      .rows = scales.numel(),
                      .width = codes.dim(codes.rank() - 1),
                      .format = format});
    return values;
}

}  // namespace

QuantizedRows quantize_rows(const Tensor& x, RowFormat format) {
    constexpr const char* op = "quantize_rows";
    check_rows(op, x, format);
    const int64_t width = x.dim(x.rank() - 1);
    const QuantizedRows out{Tensor::empty(x.shape(), DType::uint8, x.device()),
                            Tensor::empty(x.shape().drop_last(), DType::float32, x.device())};
    const bool rotated = is_power_of_two(width);
    launch(op, x.device(), cpu::quantize_rows, cuda::quantize_rows,
           QuantizeRows{
               .x = x.data<float>(),
               .codes = out.codes.data<uint8_t>(),
               .scales = out.scales.data<float>(),
               .rows = out.scales.numel(),
               .width = width,
               .format = format,
               .rotation = rotated ? static_cast<float>(1 / std::sqrt(static_cast<double>(width))) : 0});
    return out;
}

Tensor fp8_values(const QuantizedRows& rows) {
    return decoded("fp8_values", rows, RowFormat::fp8);
}

Tensor int8_values(const QuantizedRows& rows) {
    return decoded("int8_values", rows, RowFormat::int8);
}

Tensor bf16_values(const Tensor& x) {
    check_dtype("bf16_values", "x", x, DType::float32);
    const Tensor y = Tensor::empty(x.shape(), DType::float32, x.device());
    launch("bf16_values", x.device(), cpu::round_to_bf16, cuda::round_to_bf16,
           RoundToBf16{.x = x.data<float>(), .y = y.data<float>(), .count = x.numel()});
    return y;
}

Tensor times_scales(const Tensor& a, const Tensor& b) {
    constexpr const char* op = "times_scales";
    check_dtype(op, "a", a, DType::float32);
    check_same(op, "b", b, {"a", a});
    const Tensor y = Tensor::empty(a.shape(), DType::float32, a.device());
    launch(op, a.device(), cpu::times_scales, cuda::times_scales,
           TimesScales{.a = a.data<float>(), .b = b.data<float>(), .y = y.data<float>(), .count = a.numel()});
    return y;
}

}  // namespace sieve
