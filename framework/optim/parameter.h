// A tensor that is trained, under the name it has in checkpoints.
#pragma once

#include <string>

#include "framework/core/tensor.h"

namespace sieve {

struct Parameter {
    std::string name;
    Tensor tensor;
};

}  // namespace sieve
