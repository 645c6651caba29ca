#include "framework/ops/block_means/block_means.h"

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("block_means: against the formula", device) {
    for (const int64_t length : {0, 1, 5, 32, 33})
        for (const int64_t block : {1, 2, 5, 31, 40})
            for (const int64_t width : {0, 1, 7, 33}) {
                INFO("T " << length << " n " << block << " w " << width);
                const Tensor x = random_normal({3, length, width}, 1);
                const Tensor want = Tensor::zeros({3, length / block, width}, DType::float64);
                for (int64_t i = 0; i < want.numel(); ++i) {
                    const int64_t c = i % width, j = i / width % (length / block),
                                  a = i / width / (length / block);
                    for (int64_t r = 0; r < block; ++r)
                        want.data<double>()[i] += x.data<double>()[(a * length + j * block + r) * width + c];
                    want.data<double>()[i] /= static_cast<double>(block);
                }
                CHECK(relative_difference(block_means(x.to(device), block), want) < 1e-14);
                CHECK(relative_difference(block_means(x.to(DType::float32).to(device), block), want) < 1e-5);
            }
}

DEVICE_TEST_CASE("block_means: a block's bits depend on its rows alone", device) {
    const Tensor x = random_normal({1, 24, 33}, 2, DType::float32);
    const Tensor all = block_means(x.to(device), 6).to(Device{}).alias({4, 33});
    for (int64_t j = 0; j < 4; ++j) {
        const Tensor alone = x.alias({24, 33}).rows(6 * j, 6 * j + 6).clone().alias({1, 6, 33});
        CHECK(
            bit_identical(block_means(alone.to(device), 6).to(Device{}).alias({1, 33}), all.rows(j, j + 1)));
    }
}

TEST_CASE("block_means: errors") {
    check_error("block_means: x is [2,3], want 3 dims", [] { block_means(Tensor::zeros({2, 3}), 2); });
    check_error("block_means: block is 0, want at least 1", [] { block_means(Tensor::zeros({1, 2, 3}), 0); });
    check_error("block_means: needs float32 or float64, has int32", [] {
        block_means(Tensor::zeros({1, 2, 3}, DType::int32), 2);
    });
}
