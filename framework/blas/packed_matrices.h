// Matrices that are the right operand of product after product, packed once. While one of these lives, gemm finds the
// packed form by where a matrix lies, and reads it as it comes: where A has few rows, packing B is most of a product.
// No bits depend on it.
#pragma once

#include <cstdint>
#include <vector>

namespace sieve::cpu {

class PackedMatrices {
  public:
    struct Matrix {
        const float* b;  // [n,k]: op(B) is its transpose
        int64_t n, k;
    };
    // Packs them for products at precision(), at another one they are packed in every product as ever. Takes the memory
    // of the matrices once more, at bf16 half of it. The matrices must live as long and must not change: what was
    // packed would be multiplied all the same.
    explicit PackedMatrices(const std::vector<Matrix>& matrices);
    ~PackedMatrices();
    PackedMatrices(const PackedMatrices&) = delete;
    PackedMatrices& operator=(const PackedMatrices&) = delete;

  private:
    PackedMatrices() = default;
    std::vector<Matrix> held_;
};

}  // namespace sieve::cpu
