// Tensors under names, in a given order: the parameters and buffers of a model, the state of an optimiser, what a
// state dict, an .npz or a safetensors file holds. The name of a parameter is its key in checkpoints, and decides
// which optimiser takes it.
#pragma once

#include <string>
#include <vector>

#include "framework/core/tensor.h"

namespace sieve {

struct NamedTensor {
    std::string name;  // "blocks.0.attention.qkv.weight"
    Tensor tensor;
};

using NamedTensors = std::vector<NamedTensor>;

}  // namespace sieve
