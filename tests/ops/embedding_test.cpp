#include "framework/ops/embedding/embedding.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("embedding: rows of the table", device) {
    for (const int64_t width : {1, 5, 8}) {
        const Tensor weight = random_normal({7, width}, 1), tokens = random_tokens({2, 3}, 2, 7);
        const Tensor y = embedding(tokens.to(device), weight.to(device));
        CHECK(y.shape() == Shape{2, 3, width});
        for (int64_t i = 0; i < 6; ++i) {
            const int32_t token = tokens.data<int32_t>()[i];
            CHECK(bit_identical(y.alias({6, width}).rows(i, i + 1), weight.rows(token, token + 1)));
        }
    }
}

DEVICE_TEST_CASE("embedding: gradients, with repeated and unused tokens", device) {
    for (const int64_t count : {0, 1, 2, 13, 33})
        for (const int64_t vocab : {1, 2, 7, 65})
            check_gradients("count " + std::to_string(count) + " vocab " + std::to_string(vocab),
                            [&](const std::vector<Tensor>& in) {
                                const Tensor tokens = random_tokens({count}, 3, static_cast<int32_t>(vocab));
                                return std::vector<Tensor>{embedding(tokens.to(device), in[0])};
                            },
                            {random_normal({vocab, 3}, 4).set_requires_grad(true)}, {.device = device});
}

// Many tokens that are the same, stages of the CUDA kernel that add to each other, several tiles of columns.
DEVICE_TEST_CASE("embedding: the gradient has the CPU's bits", device) {
    if (device.is_cpu()) return;
    struct Case {
        int64_t count, vocab, width;
        int32_t used;  // tokens lie below this
    };
    std::vector<Case> cases{{100, 1, 3, 1}, {333, 40, 132, 40}, {4097, 20, 4, 3}, {9000, 9, 1, 9}};
    if (!is_emulated(device)) cases.insert(cases.end(), {{20000, 5000, 257, 5000}, {20000, 3000, 256, 40}});
    for (const Case& c : cases) {
        INFO(c.count << " tokens, " << c.vocab << " x " << c.width);
        const Tensor tokens = random_tokens({c.count}, 5, c.used);
        for (const DType dtype : {DType::float32, DType::float64}) {
            const Tensor dy = random_normal({c.count, c.width}, 6, dtype);
            const auto gradient_on = [&](Device where) {
                const Tensor weight = Tensor::zeros({c.vocab, c.width}, dtype, where).set_requires_grad(true);
                backward({embedding(tokens.to(where), weight)}, {dy.clone().to(where)});
                return weight.grad();
            };
            CHECK(bit_identical(gradient_on(device), gradient_on(Device{})));
        }
    }
}

DEVICE_TEST_CASE("embedding: on CUDA the row of a token outside the vocabulary is NaN", device) {
    if (device.is_cpu()) return;
    for (const int32_t bad : {-1, 4, 1 << 30}) {
        const Tensor tokens = Tensor::from(std::vector<int32_t>{1, bad, 3}, {3}, device);
        const Tensor weight = random_normal({4, 2}, 7).to(device).set_requires_grad(true);
        const Tensor y = embedding(tokens, weight);
        const std::vector<double> values = y.to_vector<double>();
        for (size_t i = 0; i < values.size(); ++i) CHECK(std::isnan(values[i]) == (i / 2 == 1));
        backward({y}, {Tensor::full({3, 2}, 1.0, DType::float64, device)});
        CHECK(weight.grad().to_vector<double>() == std::vector<double>{0, 0, 1, 1, 0, 0, 1, 1});
    }
}

TEST_CASE("embedding: one thread and two give the same gradient bits") {
    const Tensor tokens = random_tokens({500}, 5, 300), dy = random_normal({500, 17}, 6, DType::float32);
    const int before = thread_count();
    std::vector<Tensor> grads;
    for (const int threads : {1, 2}) {
        set_thread_count(threads);
        const Tensor weight = random_normal({300, 17}, 7, DType::float32).set_requires_grad(true);
        backward({embedding(tokens, weight)}, {dy.clone()});
        grads.push_back(weight.grad());
    }
    set_thread_count(before);
    CHECK(bit_identical(grads[0], grads[1]));
}

TEST_CASE("embedding: errors") {
    check_error("embedding: token 4 at position 1 is outside the vocabulary of 4", [] {
        embedding(Tensor::from(std::vector<int32_t>{0, 4}, {2}), Tensor::zeros({4, 2}));
    });
    check_error("embedding: token -1 at position 0 is outside the vocabulary of 4", [] {
        embedding(Tensor::from(std::vector<int32_t>{-1}, {1}), Tensor::zeros({4, 2}));
    });
    check_error("embedding: tokens is float32, want int32", [] {
        embedding(Tensor::zeros({2}), Tensor::zeros({4, 2}));
    });
    check_error("embedding: weight is [4], want 2 dims",
                [] { embedding(Tensor::zeros({2}, DType::int32), Tensor::zeros({4})); });
}

DEVICE_TEST_CASE("embedding: operands on two devices are refused", device) {
    if (device.is_cpu()) return;
    check_error("embedding: tokens is on cpu, want cuda:0, where weight is", [&] {
        embedding(Tensor::zeros({2}, DType::int32), Tensor::zeros({4, 2}, DType::float32, device));
    });
}
