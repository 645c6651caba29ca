#include "framework/blas/packed_matrices.h"

#include <new>
#include <optional>

#include "framework/blas/gemm.h"
#include "tests/support/failing_new.h"
#include "tests/support/precision_scope.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// c = a b^T with a [m,k], b [n,k].
Tensor product(const Tensor& a, const Tensor& b) {
    const Tensor c = Tensor::zeros({a.dim(0), b.dim(0)});
    cpu::gemm<float>({.transpose_b = true,
                      .m = a.dim(0),
                      .n = b.dim(0),
                      .k = a.dim(1),
                      .a = a.data<float>(),
                      .lda = a.dim(1),
                      .b = b.data<float>(),
                      .ldb = b.dim(1),
                      .c = c.data<float>(),
                      .ldc = b.dim(0)});
    return c;
}

cpu::PackedMatrices packed(const Tensor& b) {
    return cpu::PackedMatrices({{b.data<float>(), b.dim(0), b.dim(1)}});
}

}  // namespace

TEST_CASE("packed matrices: the bits of products without them, and they are what is read") {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        const PrecisionScope scope(precision);
        // The last two have more than one part: more steps of k, and more columns, than the buffer takes at once.
        for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
                 {1, 1}, {31, 3}, {33, 512}, {97, 513}, {256, 768}, {40, 8200}, {4100, 600}}) {
            const Tensor b = random_normal({n, k}, 2, DType::float32);
            for (const int64_t m : {0, 1, 2, 5, 13, 100}) {
                INFO(n << " columns, " << k << " steps, " << m << " rows");
                const Tensor a = random_normal({m, k}, 1, DType::float32);
                const Tensor want = product(a, b);
                const cpu::PackedMatrices held = packed(b);
                CHECK(bit_identical(product(a, b), want));
                if (m == 0) continue;
                b.fill(0);
                CHECK(bit_identical(product(a, b), want));
                b.copy_from(random_normal({n, k}, 2, DType::float32));
            }
        }
    }
}

TEST_CASE(
    "packed matrices: forgotten with the last that holds them; only for the whole matrix, at their "
    "precision") {
    const Tensor a = random_normal({2, 64}, 1, DType::float32),
                 b = random_normal({48, 64}, 2, DType::float32);
    const Tensor before = product(a, b), zeros = Tensor::zeros({2, 48});
    std::optional<cpu::PackedMatrices> first(
        std::in_place, std::vector<cpu::PackedMatrices::Matrix>{{b.data<float>(), 48, 64}});
    {
        const cpu::PackedMatrices second = packed(b);
        b.fill(0);
        first.reset();
        CHECK(bit_identical(product(a, b), before));
        CHECK(bit_identical(product(a, b.rows(0, 24)), Tensor::zeros({2, 24})));
        const PrecisionScope scope(Precision::bf16);
        CHECK(bit_identical(product(a, b), zeros));
    }
    CHECK(bit_identical(product(a, b), zeros));
}

TEST_CASE("packed matrices: of those for which memory does not suffice none is kept") {
    if (!can_fail_new()) return skip("needs an operator new of the tests' own");
    const Tensor a = random_normal({2, 64}, 1, DType::float32);
    std::vector<Tensor> matrices;
    std::vector<cpu::PackedMatrices::Matrix> all;
    for (const uint64_t seed : {2, 3}) {
        matrices.push_back(random_normal({48, 64}, seed, DType::float32));
        all.push_back({matrices.back().data<float>(), 48, 64});
    }
    int64_t failures = 0;
    for (bool failed = true; failed; failures += failed) {
        failed = false;
        fail_new_after(failures + 1);
        try {
            const cpu::PackedMatrices held(all);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        fail_new_after(0);
        for (const Tensor& b : matrices) {
            const Tensor kept = b.clone();
            b.fill(0);
            CHECK(bit_identical(product(a, b), Tensor::zeros({2, 48})));
            b.copy_from(kept);
        }
    }
    CHECK(failures > 4);
}
