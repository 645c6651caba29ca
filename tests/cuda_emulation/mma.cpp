// Fragment layouts: PTX ISA, "Warp-level matrix instructions". With g = lane / 4 and t = lane % 4:
//   m16n8k16, bf16  a[i] = A[g + 8 (i%2)][2t + 8 (i/2) ...+1]   b[i] = B[2t + 8i ...+1][g]
//   m16n8k8, tf32   a[i] = A[g + 8 (i%2)][t + 4 (i/2)]          b[i] = B[t + 4i][g]
//   both            d[i] = D[g + 8 (i/2)][2t + i%2]
#include <bit>
#include <cstring>
#include <stdexcept>

#include "cuda_emulation/mma_emulated.h"
#include "cuda_runtime.h"
#include "tests/cuda_emulation/shared_memory.h"

namespace sieve::cuda_emulation {

namespace {

struct Fragments {
    float* d;
    const uint32_t *a, *b;
};

void need_whole_warp(uint32_t lanes) {
    if (lanes != 0xffffffffu) throw std::runtime_error("needs all 32 lanes of the warp");
}

float bf16_half(uint32_t pair, int half) {
    return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}
float tf32(uint32_t bits) {
    return std::bit_cast<float>(bits & 0xffffe000u);
}

// D[16][8] += A[16][depth] B[depth][8], in float, in the order of the inner index; bf16 and tf32 products are
// exact.
template <int depth>
void multiply(const float (&a)[16][depth], const float (&b)[depth][8], void* const (&operands)[32]) {
    for (int lane = 0; lane < 32; ++lane) {
        float* d = static_cast<const Fragments*>(operands[lane])->d;
        for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            for (int k = 0; k < depth; ++k) d[i] += a[row][k] * b[k][column];
        }
    }
}

void resolve_bf16(uint32_t lanes, void* const (&operands)[32]) {
    need_whole_warp(lanes);
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& own = *static_cast<const Fragments*>(operands[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 4; ++i)
                a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = bf16_half(own.a[i], half);
            for (int i = 0; i < 2; ++i) b[2 * t + 8 * i + half][g] = bf16_half(own.b[i], half);
        }
    }
    multiply(a, b, operands);
}

void resolve_tf32(uint32_t lanes, void* const (&operands)[32]) {
    need_whole_warp(lanes);
    float a[16][8], b[8][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& own = *static_cast<const Fragments*>(operands[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = tf32(own.a[i]);
        for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = tf32(own.b[i]);
    }
    multiply(a, b, operands);
}

struct MatrixLoad {
    uint32_t* registers;
    const void* row;
};

// Lane 8 i + r gives row r of matrix i: eight 16-bit elements.
template <int count, bool transposed>
void resolve_load(uint32_t lanes, void* const (&operands)[32]) {
    need_whole_warp(lanes);
    for (int i = 0; i < count; ++i) {
        uint16_t matrix[8][8];
        for (int r = 0; r < 8; ++r)
            std::memcpy(matrix[r], static_cast<const MatrixLoad*>(operands[8 * i + r])->row,
                        sizeof matrix[r]);
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = 2 * (lane % 4);
            const uint16_t low = transposed ? matrix[t][g] : matrix[g][t];
            const uint16_t high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
            static_cast<MatrixLoad*>(operands[lane])->registers[i] = low | uint32_t(high) << 16;
        }
    }
}

}  // namespace

void load_matrices(uint32_t* registers, int count, bool transposed, const void* row,
                   const std::source_location& where) {
    if (static_cast<int>(lane_id()) < 8 * count) {
        if (reinterpret_cast<uintptr_t>(row) % 16)
            thread_error("ldmatrix: a row address that is no multiple of 16", where);
        if (!is_shared(row, 16)) thread_error("ldmatrix: a row that is not in shared memory", where);
    }
    MatrixLoad operands{.registers = registers, .row = row};
    const Resolve resolve = count == 4   ? transposed ? resolve_load<4, true> : resolve_load<4, false>
                              : transposed ? resolve_load<2, true>
                                         : resolve_load<2, false>;
    warp_collective("ldmatrix", 0xffffffffu, &operands, resolve, where);
}

}  // namespace sieve::cuda_emulation

namespace sieve::cuda {

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       const std::source_location& where) {
    cuda_emulation::Fragments operands{.d = d, .a = a, .b = b};
    cuda_emulation::warp_collective("mma_m16n8k16_bf16", 0xffffffffu, &operands, cuda_emulation::resolve_bf16,
                                    where);
}

void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                      const std::source_location& where) {
    cuda_emulation::Fragments operands{.d = d, .a = a, .b = b};
    cuda_emulation::warp_collective("mma_m16n8k8_tf32", 0xffffffffu, &operands, cuda_emulation::resolve_tf32,
                                    where);
}

uint32_t to_tf32(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinities and NaN stay
    return (bits + 0x1000u) & 0xffffe000u;                 // to nearest, ties away from zero
}

}  // namespace sieve::cuda
