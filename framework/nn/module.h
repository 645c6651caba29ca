// A module: parameters and buffers with names, and child modules whose names become prefixes of theirs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "framework/core/named_tensor.h"
#include "framework/core/rng.h"
#include "framework/core/tensor.h"

namespace sieve {

// How new parameters are made. The numbers of a parameter depend on the seed and on its full name alone: two
// models that share names share weights, whatever else they contain.
struct ParameterInit {
    uint64_t seed = 42;
    double std = 0.02;
    DType dtype = DType::float32;
    Device device = {};

    // Normal with mean 0 and the given standard deviation; the stream is a hash of `full_name`. With std 0,
    // for a model whose weights are read, zeros at no cost.
    Tensor normal(const std::string& full_name, const Shape& shape) const;
    Tensor constant(const Shape& shape, double value) const;
};

// Modules hand out pointers to themselves and are therefore neither copied nor moved.
class Module {
  public:
    Module() = default;
    virtual ~Module() = default;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    // Own parameters first, then the children's, in the order in which they were added.
    NamedTensors parameters(const std::string& prefix = "") const;
    // What belongs to the model's state beside the parameters: saved and loaded with them, reached by no
    // gradient.
    NamedTensors buffers(const std::string& prefix = "") const;

  protected:
    // Makes `value` a leaf that wants a gradient.
    Tensor add_parameter(const std::string& name, const Tensor& value);
    Tensor add_buffer(const std::string& name, const Tensor& value);
    // The names below an unnamed child get no prefix.
    void add_child(const std::string& name, const Module& child);

  private:
    NamedTensors own_, own_buffers_;
    std::vector<std::pair<std::string, const Module*>> children_;
};

}  // namespace sieve
