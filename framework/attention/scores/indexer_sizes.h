#pragma once

#include <cstdint>

namespace sieve {

struct IndexerSizes {
    int64_t batch, length, heads, width;  // B, T, HI, dI
};

}  // namespace sieve
