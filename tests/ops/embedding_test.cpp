#include "framework/ops/embedding/embedding.h"

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("embedding: rows of the table") {
    const Tensor weight = random_normal({7, 5}, 1), tokens = random_tokens({2, 3}, 2, 7);
    const Tensor y = embedding(tokens, weight);
    CHECK(y.shape() == Shape{2, 3, 5});
    for (int64_t i = 0; i < 6; ++i)
        for (int64_t j = 0; j < 5; ++j)
            CHECK(y.data<double>()[i * 5 + j] == weight.data<double>()[tokens.data<int32_t>()[i] * 5 + j]);
}

TEST_CASE("embedding: gradients, with repeated and unused tokens") {
    for (const int64_t count : {0, 1, 2, 13, 33})
        for (const int64_t vocab : {1, 2, 7, 65})
            check_gradients("count " + std::to_string(count) + " vocab " + std::to_string(vocab),
                            [&](const std::vector<Tensor>& in) {
                                return std::vector<Tensor>{
                                    embedding(random_tokens({count}, 3, static_cast<int32_t>(vocab)), in[0])};
                            },
                            {random_normal({vocab, 3}, 4).set_requires_grad(true)});
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
