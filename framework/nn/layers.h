// The plain layers: a weight and the op that reads it.
#pragma once

#include <string>

#include "framework/nn/module.h"

namespace sieve {

enum class Bias { no, yes };

// y = x W^T, W [out,in], and with a bias + b, b [out], which starts at 0.
class Linear : public Module {
  public:
    Linear(const ParameterInit& init, const std::string& full_name, int64_t in, int64_t out,
           Bias bias = Bias::no);
    Tensor operator()(const Tensor& x) const;  // [...,in] -> [...,out]
    const Tensor& weight() const { return weight_; }

  private:
    Tensor weight_;
    Tensor bias_;  // undefined: none
};

class Embedding : public Module {
  public:
    Embedding(const ParameterInit& init, const std::string& full_name, int64_t vocab, int64_t width);
    Tensor operator()(const Tensor& tokens) const;  // int32 [...] -> [...,width]
    const Tensor& weight() const { return weight_; }

  private:
    Tensor weight_;
};

class RMSNorm : public Module {
  public:
    RMSNorm(const ParameterInit& init, int64_t width, double eps);
    Tensor operator()(const Tensor& x) const;

  private:
    Tensor weight_;
    double eps_;
};

class LayerNorm : public Module {
  public:
    LayerNorm(const ParameterInit& init, int64_t width, double eps);
    Tensor operator()(const Tensor& x) const;

  private:
    Tensor weight_, bias_;
    double eps_;
};

}  // namespace sieve
