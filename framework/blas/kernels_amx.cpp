#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "framework/blas/kernels.h"
#include "framework/core/vectors.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>

// After the headers: whatever they define inline must stay runnable everywhere.
#pragma GCC target("arch=x86-64-v4,avx512bf16,amx-tile,amx-bf16")
// In the order of their needs.
// clang-format off
#include "framework/blas/kernels_inl.h"
#include "framework/blas/pair_packing_inl.h"
#include "framework/blas/avx512_bf16_inl.h"
#include "framework/blas/amx_tiles_inl.h"
// clang-format on

namespace sieve::cpu {
namespace {

// The intrinsics are macros that want the numbers of tiles as text.
struct HardwareTiles {
    static inline __attribute__((always_inline)) void zero_sums() {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    static inline __attribute__((always_inline)) void load_a0(const Bf16Pair* p, int64_t row_bytes) {
        _tile_loadd(4, p, row_bytes);
    }
    static inline __attribute__((always_inline)) void load_a1(const Bf16Pair* p, int64_t row_bytes) {
        _tile_loadd(5, p, row_bytes);
    }
    static inline __attribute__((always_inline)) void load_b0(const Bf16Pair* p, int64_t row_bytes) {
        _tile_loadd(6, p, row_bytes);
    }
    static inline __attribute__((always_inline)) void load_b1(const Bf16Pair* p, int64_t row_bytes) {
        _tile_loadd(7, p, row_bytes);
    }
    static inline __attribute__((always_inline)) void multiply_00() { _tile_dpbf16ps(0, 4, 6); }
    static inline __attribute__((always_inline)) void multiply_01() { _tile_dpbf16ps(1, 4, 7); }
    static inline __attribute__((always_inline)) void multiply_10() { _tile_dpbf16ps(2, 5, 6); }
    static inline __attribute__((always_inline)) void multiply_11() { _tile_dpbf16ps(3, 5, 7); }
    static inline __attribute__((always_inline)) void store_sums(float* c, int64_t ldc) {
        const int64_t row_bytes = ldc * static_cast<int64_t>(sizeof(float));
        _tile_stored(0, c, row_bytes);
        _tile_stored(1, c + 16, row_bytes);
        _tile_stored(2, c + 16 * ldc, row_bytes);
        _tile_stored(3, c + 16 * ldc + 16, row_bytes);
    }
};

// All eight tiles are 16 rows of 64 bytes.
void enter() {
    struct alignas(64) Configuration {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(Configuration) == 64);
    static const Configuration configuration;
    _tile_loadconfig(&configuration);
}

// A thread that keeps tiles in use makes each switch of threads dearer.
void leave() {
    _tile_release();
}

}  // namespace

const PairKernels& pair_kernels_amx() {
    static const PairKernels set = [] {
        PairKernels kernels = PairPacking<64, 2, InstructionRounding>::kernels(
            "AMX", amx_tile_rows, amx_tile_pairs, amx_tile<HardwareTiles>);
        kernels.enter = enter;
        kernels.leave = leave;
        return kernels;
    }();
    return set;
}

}  // namespace sieve::cpu
#endif
