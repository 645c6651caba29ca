// A Selection as device code reads it.
#pragma once

#include <cstdint>

namespace sieve::cuda {

// A selection whose values nobody has checked: indices are clamped to [0, T), counts to [0, slots].
struct ChosenKeys {
    const int32_t* indices;  // [B,T,slots]
    const int32_t* counts;   // [B,T]
    int64_t batch, length, slots;

    __host__ __device__ int64_t rows() const { return batch * length; }
    __device__ int count(int64_t row) const {
        const int64_t n = counts[row];
        return static_cast<int>(n < 0 ? 0 : n < slots ? n : slots);
    }
    __device__ int key(int64_t row, int64_t slot) const {
        const int64_t s = indices[row * slots + slot];
        return static_cast<int>(s < 0 ? 0 : s < length ? s : length - 1);
    }
};

}  // namespace sieve::cuda
