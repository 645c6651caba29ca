// What an optimiser remembers between steps, as named tensors: "<parameter>.exp_avg",
// "<parameter>.momentum_buffer", ...
#pragma once

#include <map>
#include <string>

#include "framework/core/named_tensor.h"

namespace sieve {

// Hands out the entries of a saved state once each. Throws a bad-file error when one is missing, has another
// shape or dtype than expected, or when some are left over at the end: a state is loaded exactly or not at
// all.
class StateReader {
  public:
    explicit StateReader(const NamedTensors& state);
    Tensor take(const std::string& name, const Shape& shape, DType dtype);
    void expect_end() const;

  private:
    std::map<std::string, Tensor> left_;
};

}  // namespace sieve
