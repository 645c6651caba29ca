// A warp quantises one row, which it keeps in shared memory: lane l takes the pairs l, l + 32, ... of each
// pass of the rotation, then the elements l, l + 32, ... The sums of a pass are those of the CPU, so that the
// bits are, too. The other kernels are elementwise.
//
// 5 bytes an element, read and written once; at width 128, 7 passes through shared memory. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/quantization/formats.h"
#include "framework/quantization/quantization_kernels.h"

namespace sieve::cuda {
namespace {

constexpr int warps = 4;  // of a block

__device__ void rotate(float* y, int width, float rotation, int lane) {
    for (int half = 1; half < width; half *= 2) {
        for (int pair = lane; pair < width / 2; pair += warp_size) {
            const int i = pair / half * 2 * half + pair % half;
            const float a = y[i], b = y[i + half];
            y[i] = a + b;
            y[i + half] = a - b;
        }
        __syncwarp();
    }
    for (int i = lane; i < width; i += warp_size) y[i] *= rotation;
}

__global__ void __launch_bounds__(warps* warp_size) quantize_kernel(QuantizeRows a) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int width = static_cast<int>(a.width);
    const int64_t row = static_cast<int64_t>(blockIdx.x) * warps + warp;
    if (row >= a.rows) return;
    float* y = dynamic_shared<float>() + warp * width;
    for (int i = lane; i < width; i += warp_size) y[i] = a.x[row * width + i];
    __syncwarp();
    if (a.rotation != 0) rotate(y, width, a.rotation, lane);
    uint32_t largest = 0;
    for (int i = lane; i < width; i += warp_size)
        largest = magnitude_bits(y[i]) > largest ? magnitude_bits(y[i]) : largest;
    largest = warp_reduce(largest, [](uint32_t x, uint32_t z) { return x > z ? x : z; });
    const RowScale scale = row_scale(largest, a.format);
    if (lane == 0) a.scales[row] = scale.scale;
    for (int i = lane; i < width; i += warp_size) {
        uint8_t code = 0;
        if (scale.divisor != 0)
            code = a.format == RowFormat::fp8 ? encode_e4m3(y[i] * scale.divisor)
                                              : encode_int8(y[i], scale.divisor);
        a.codes[row * width + i] = code;
    }
}

}  // namespace

void quantize_rows(const QuantizeRows& a) {
    launch_kernel(quantize_kernel,
                  {.blocks = dim3(static_cast<unsigned>((a.rows + warps - 1) / warps)),
                   .threads = dim3(warps * warp_size),
                   .shared_bytes = static_cast<size_t>(warps * a.width) * sizeof(float)},
                  a);
}

void decode_rows(const DecodeRows& a) {
    for_each_element(a.rows * a.width, [a] __device__(int64_t i) {
        a.values[i] = a.format == RowFormat::fp8 ? decode_e4m3(a.codes[i]) * a.scales[i / a.width]
                                                 : static_cast<float>(static_cast<int8_t>(a.codes[i]));
    });
}

void round_to_bf16(const RoundToBf16& a) {
    map_elements(
        a.count, a.y, [] __device__(float x) { return nearest_bf16(x); }, a.x);
}

void times_scales(const TimesScales& a) {
    map_elements(
        a.count, a.y, [] __device__(float x, float y) { return x * y; }, a.a, a.b);
}

}  // namespace sieve::cuda
