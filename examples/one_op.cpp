// One op with autograd: attention over keys that were chosen by scores, and what a step against its gradient does.
#include <cstdio>
#include <exception>

#include "framework/autograd/autograd.h"
#include "framework/ops/sparse_attention/sparse_attention.h"
#include "framework/ops/sum/sum.h"
#include "framework/ops/top_k/top_k.h"

using namespace sieve;

namespace {

// Numbers between -1 and 1 that look random.
Tensor noise(const Shape& shape, uint32_t state) {
    std::vector<float> values(static_cast<size_t>(shape.numel()));
    for (float& x : values) {
        state = state * 1664525u + 1013904223u;
        x = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
    }
    return Tensor::from(values, shape);
}

}  // namespace

int main() try {
    const int64_t tokens = 16, top_k = 4, heads = 2, width = 8;
    const Shape shape{1, heads, tokens, width};
    const Tensor q = noise(shape, 1), k = noise(shape, 2), v = noise(shape, 3);
    v.set_requires_grad(true);
    const Selection keys = top_k_select(noise({1, tokens, tokens}, 4), top_k);

    const auto total = [&] { return sum(sparse_attention(q, k, v, keys, 1 / 2.83).out); };
    const Tensor before = total();
    backward(before);
    float* value = v.data<float>();
    const std::vector<float> gradient = v.grad().to_vector<float>();
    for (size_t i = 0; i < gradient.size(); ++i) value[i] -= 0.01f * gradient[i];
    const double after = total().item();
    std::printf(
        "sum of what %ld tokens read of %ld keys each: %.4f, after a step against its gradient %.4f\n",
        tokens, top_k, before.item(), after);
    return after < before.item() ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "one_op: %s\n", error.what());
    return 1;
}
