// Search in the ascending indices of a selection.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sieve::cuda {

// The first place in [low, high) of `ascending` whose value is at least `value`; `high` when there is none.
__device__ inline int lower_bound(const int32_t* ascending, int low, int high, int64_t value) {
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (ascending[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

}  // namespace sieve::cuda
