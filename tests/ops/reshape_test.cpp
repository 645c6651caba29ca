#include "framework/ops/reshape/reshape.h"

#include "framework/autograd/autograd.h"
#include "framework/ops/add/add.h"
#include "framework/ops/scale/scale.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("reshape: the same elements, not a copy") {
    const Tensor x = random_normal({2, 3, 4}, 1);
    const Tensor y = reshape(x, {6, 4});
    CHECK(y.shape() == Shape{6, 4});
    CHECK(y.data<double>() == x.data<double>());
    CHECK(reshape(Tensor::zeros({0, 5}), {7, 0}).numel() == 0);
    CHECK(reshape(Tensor::zeros({1, 1}), {}).rank() == 0);
    CHECK(reshape(Tensor::zeros({4}, DType::int32), {2, 2}).dtype() == DType::int32);
}

TEST_CASE("reshape: gradients") {
    for (const int64_t rows : {0, 1, 3}) {
        for (const int64_t width : {1, 4, 33}) {
            const Tensor x = random_normal({rows, width}, 2).set_requires_grad(true);
            const auto flat = [=](const Tensor& t) { return reshape(t, {rows * width}); };
            check_gradients(
                "flat", [=](const std::vector<Tensor>& in) { return std::vector<Tensor>{flat(in[0])}; }, {x});
            check_gradients("two views and the tensor itself, summed",
                            [=](const std::vector<Tensor>& in) {
                                const Tensor y = scale(in[0], 2.0);
                                return std::vector<Tensor>{y, flat(y), add(flat(y), flat(in[0]))};
                            },
                            {x});
        }
    }
}

TEST_CASE("reshape: errors") {
    check_error("reshape: [2,3] has 6 elements, [4,2] has 8", [] { reshape(Tensor::zeros({2, 3}), {4, 2}); });
}
