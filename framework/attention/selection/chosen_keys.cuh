// Selected keys whose values nobody has checked, as device code reads them.
#pragma once

#include "framework/attention/selection/selected_keys.h"

namespace sieve::cuda {

// Indices are clamped to [0, T), counts to [0, slots].
struct ChosenKeys {
    SelectedKeys selected;
    int64_t batch, length;

    __host__ __device__ int64_t rows() const { return batch * length; }
    __host__ __device__ int64_t slots() const { return selected.slots; }
    __host__ __device__ bool given() const { return selected.indices != nullptr; }
    __device__ int count(int64_t row) const {
        const int64_t n = selected.counts[row];
        return static_cast<int>(n < 0 ? 0 : n < slots() ? n : slots());
    }
    __device__ int key(int64_t row, int64_t slot) const {
        const int64_t s = selected.indices[row * slots() + slot];
        return static_cast<int>(s < 0 ? 0 : s < length ? s : length - 1);
    }
};

}  // namespace sieve::cuda
