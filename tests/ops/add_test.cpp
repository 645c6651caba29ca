#include "framework/ops/add/add.h"

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("add: values, both dtypes") {
    for (const int64_t n : {0, 1, 31, 32, 33, 70000}) {
        const Tensor a = random_normal({n}, 1), b = random_normal({n}, 2), y = add(a, b);
        bool equal = true;
        for (int64_t i = 0; i < n; ++i)
            equal = equal && y.data<double>()[i] == a.data<double>()[i] + b.data<double>()[i];
        CHECK(equal);
        CHECK(relative_difference(add(a.to(DType::float32), b.to(DType::float32)), y) < 1e-6);
    }
}

TEST_CASE("add: gradients, also of one tensor used twice") {
    for (const int64_t rows : {0, 1, 3}) {
        for (const int64_t width : {1, 5, 33}) {
            const Tensor a = random_normal({rows, width}, 3).set_requires_grad(true);
            const Tensor b = random_normal({rows, width}, 4).set_requires_grad(true);
            check_gradients(
                "a + b", [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add(in[0], in[1])}; },
                {a, b});
            check_gradients("(a + b) + a, both kept",
                            [](const std::vector<Tensor>& in) {
                                const Tensor inner = add(in[0], in[1]);
                                return std::vector<Tensor>{inner, add(inner, in[0])};
                            },
                            {a, b});
            check_gradients(
                "a + a", [](const std::vector<Tensor>& in) { return std::vector<Tensor>{add(in[0], in[0])}; },
                {a});
        }
    }
}

TEST_CASE("add: errors") {
    check_error("add: b is [3], want [2,3], the shape of a", [] {
        add(Tensor::zeros({2, 3}), Tensor::zeros({3}));
    });
    check_error("add: b is float64, want float32",
                [] { add(Tensor::zeros({2}), Tensor::zeros({2}, DType::float64)); });
    check_error("add: needs float32 or float64, has int64",
                [] { add(Tensor::zeros({2}, DType::int64), Tensor::zeros({2}, DType::int64)); });
}
