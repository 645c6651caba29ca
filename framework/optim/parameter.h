// A trained tensor and its name: the name is the key in checkpoints, and it decides which optimiser takes the
// parameter.
#pragma once

#include <string>

#include "framework/core/tensor.h"

namespace sieve {

struct Parameter {
    std::string name;  // "blocks.0.attention.qkv.weight"
    Tensor tensor;     // a leaf that wants a gradient
};

}  // namespace sieve
