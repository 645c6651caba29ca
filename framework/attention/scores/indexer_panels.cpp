#include "framework/attention/scores/indexer_panels.h"

#include "framework/core/simd.h"

namespace sieve::cpu {

SIEVE_CLONES void pack_panels_of(const float* k, int64_t keys, int64_t width, float* packed) {
    pack_panels(k, keys, width, packed);
}
SIEVE_CLONES void pack_panels_of(const double* k, int64_t keys, int64_t width, double* packed) {
    pack_panels(k, keys, width, packed);
}

}  // namespace sieve::cpu
