#include "framework/nn/materialised_attention.h"

#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/ops/causal_mask/causal_mask.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/head_parts/head_parts.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("mask_future: hides what lies above the diagonal, in each square", device) {
    const Tensor x = random_normal({2, 6, 3}, 1);  // two squares below each other in each matrix
    const Tensor masked = x.to(device).clone();
    mask_future(masked);
    const std::vector<double> got = masked.to_vector<double>();
    for (int64_t i = 0; i < x.numel(); ++i)
        CHECK(got[static_cast<size_t>(i)] == (i % 3 > i / 3 % 3 ? -INFINITY : x.data<double>()[i]));
    check_error("mask_future: scores are [2,4,3], want [..., R*T, T] with T >= 1", [] {
        mask_future(Tensor::zeros({2, 4, 3}));
    });
}

DEVICE_TEST_CASE("merge_heads: heads side by side in a token, and back", device) {
    const Tensor x = random_normal({2, 3, 5, 4}, 2);
    const Tensor y = merge_heads(x.to(device)).to(Device{});
    REQUIRE(y.shape() == Shape{2, 5, 12});
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 3; ++h)
            for (int64_t t = 0; t < 5; ++t)
                for (int64_t j = 0; j < 4; ++j)
                    CHECK(y.data<double>()[(b * 5 + t) * 12 + h * 4 + j] ==
                          x.data<double>()[((b * 3 + h) * 5 + t) * 4 + j]);
    CHECK(merge_heads(Tensor::zeros({0, 2, 3, 1})).shape() == Shape{0, 3, 2});
    check_gradients("merge_heads",
                    [](const std::vector<Tensor>& in) { return std::vector<Tensor>{merge_heads(in[0])}; },
                    {random_normal({2, 3, 5, 2}, 3).set_requires_grad(true)}, {.device = device});
}

DEVICE_TEST_CASE("materialised attention: dense attention's results and gradients, with shared keys too",
                 device) {
    for (const auto& [B, H, G, T, dh, dv] : std::vector<std::array<int64_t, 6>>{
             {1, 1, 1, 1, 1, 1}, {2, 3, 3, 7, 4, 4}, {2, 4, 2, 33, 3, 5}, {1, 6, 1, 5, 2, 3}}) {
        INFO("H " << H << " G " << G << " T " << T);
        std::vector<std::vector<Tensor>> results;
        for (const bool materialised : {false, true}) {
            std::vector<Tensor> in;
            for (const auto& [shape, seed] : std::vector<std::pair<Shape, uint64_t>>{
                     {{B, H, T, dh}, 4}, {{B, G, T, dh}, 5}, {{B, G, T, dv}, 6}})
                in.push_back(random_normal(shape, seed).to(device).set_requires_grad(true));
            const Tensor out = materialised ? materialised_attention(in[0], in[1], in[2], 0.6)
                                            : dense_attention(in[0], in[1], in[2], 0.6).out;
            backward({out}, {random_normal({B, T, H * dv}, 7).to(device)});
            results.push_back({out, in[0].grad(), in[1].grad(), in[2].grad()});
        }
        for (size_t i = 0; i < 4; ++i) CHECK(max_abs_difference(results[0][i], results[1][i]) < 1e-12);
    }
}
