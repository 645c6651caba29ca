#include "framework/nn/layers.h"

#include "framework/ops/add_bias/add_bias.h"
#include "framework/ops/embedding/embedding.h"
#include "framework/ops/layer_norm/layer_norm.h"
#include "framework/ops/linear/linear.h"
#include "framework/ops/rms_norm/rms_norm.h"

namespace sieve {

Linear::Linear(const ParameterInit& init, const std::string& full_name, int64_t in, int64_t out, Bias bias)
    : weight_(add_parameter("weight", init.normal(full_name + ".weight", {out, in}))) {
    if (bias == Bias::yes) bias_ = add_parameter("bias", init.constant({out}, 0));
}
Tensor Linear::operator()(const Tensor& x) const {
    const Tensor y = linear(x, weight_);
    return bias_.defined() ? add_bias(y, bias_) : y;
}

Embedding::Embedding(const ParameterInit& init, const std::string& full_name, int64_t vocab, int64_t width)
    : weight_(add_parameter("weight", init.normal(full_name + ".weight", {vocab, width}))) {}
Tensor Embedding::operator()(const Tensor& tokens) const {
    return embedding(tokens, weight_);
}

RMSNorm::RMSNorm(const ParameterInit& init, int64_t width, double eps)
    : weight_(add_parameter("weight", init.constant({width}, 1.0))), eps_(eps) {}
Tensor RMSNorm::operator()(const Tensor& x) const {
    return rms_norm(x, weight_, eps_);
}

LayerNorm::LayerNorm(const ParameterInit& init, int64_t width, double eps)
    : weight_(add_parameter("weight", init.constant({width}, 1.0))),
      bias_(add_parameter("bias", init.constant({width}, 0.0))),
      eps_(eps) {}
Tensor LayerNorm::operator()(const Tensor& x) const {
    return layer_norm(x, weight_, bias_, eps_);
}

}  // namespace sieve
