// Private to this room.
// What packed_matrices.h keeps, and how a product finds it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "framework/blas/gemm.h"

namespace sieve::cpu {

struct FreeWords {
    void operator()(void* p) const { ::operator delete (p, std::align_val_t{64}); }
};
// Packed words, 4 bytes each, of the parts of one op(B), in the order in which a product takes them.
using PackedParts = std::vector<std::unique_ptr<uint32_t, FreeWords>>;

// The parts of this product's B, packed at precision(); null when nobody keeps them.
const PackedParts* packed_parts(const Gemm<float>& g);

// B packed as products with m rows of A, for any m, pack it; at precision().
PackedParts pack_parts(const Gemm<float>& g);       // gemm.cpp
PackedParts pack_bf16_parts(const Gemm<float>& g);  // bf16_gemm.cpp

}  // namespace sieve::cpu
