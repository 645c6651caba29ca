// What two rows of a Selection have in common.
#pragma once

#include <cstdint>

namespace sieve {

// How many keys the ascending a[0..na) and b[0..nb) share.
inline int64_t common_keys(const int32_t* a, int64_t na, const int32_t* b, int64_t nb) {
    int64_t i = 0, j = 0, common = 0;
    while (i < na && j < nb) {
        common += a[i] == b[j];
        const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
        i += step_a;
        j += step_b;
    }
    return common;
}

}  // namespace sieve
