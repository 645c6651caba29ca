// The feed-forward of a block, and of one expert of a mixture:
//
//   silu:    linear2(dropout(silu(linear1 x)))
//   swiglu:  linear2(dropout(silu(linear1 x) * linear3 x))        named as Mixtral's w1, w2 and w3
#pragma once

#include <memory>
#include <string>

#include "framework/core/named_enum.h"
#include "framework/nn/layers.h"

namespace sieve {

enum class FeedForwardKind { silu, swiglu };
template <>
inline constexpr auto enum_names<FeedForwardKind> = std::to_array<NamedValue<FeedForwardKind>>(
    {{FeedForwardKind::silu, "silu"}, {FeedForwardKind::swiglu, "swiglu"}});

class FeedForward : public Module {
  public:
    FeedForward(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t d_ff,
                FeedForwardKind kind);
    // x [N, d_model] -> the same shape. `rng` draws dropout in training; null in evaluation.
    Tensor operator()(const Tensor& x, double dropout_rate, Generator* rng) const;
    const Linear linear1, linear2;
    const std::unique_ptr<Linear> linear3;  // swiglu only
};

// The hidden units, dropout included, from what linear1 gave and, for swiglu, linear3 (undefined for silu).
Tensor hidden_units(const Tensor& first, const Tensor& third, double dropout_rate, Generator* rng);

}  // namespace sieve
