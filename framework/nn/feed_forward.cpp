#include "framework/nn/feed_forward.h"

#include "framework/ops/dropout/dropout.h"
#include "framework/ops/silu/silu.h"
#include "framework/ops/swiglu/swiglu.h"

namespace sieve {

Tensor hidden_units(const Tensor& first, const Tensor& third, double rate, Generator* rng) {
    if (!third.defined()) return rng ? silu_dropout(first, rate, rng->next_key()) : silu(first);
    const Tensor gated = swiglu(first, third);
    return rng ? dropout(gated, rate, rng->next_key()) : gated;
}

FeedForward::FeedForward(const ParameterInit& init, const std::string& full_name, int64_t d_model,
                         int64_t d_ff, FeedForwardKind kind)
    : linear1(init, full_name + ".linear1", d_model, d_ff),
      linear2(init, full_name + ".linear2", d_ff, d_model),
      linear3(kind == FeedForwardKind::swiglu
                  ? std::make_unique<Linear>(init, full_name + ".linear3", d_model, d_ff)
                  : nullptr) {
    add_child("linear1", linear1);
    add_child("linear2", linear2);
    if (linear3) add_child("linear3", *linear3);
}

Tensor FeedForward::operator()(const Tensor& x, double dropout_rate, Generator* rng) const {
    return linear2(hidden_units(linear1(x), linear3 ? (*linear3)(x) : Tensor(), dropout_rate, rng));
}

}  // namespace sieve
