// How many parameters a model has, from its configuration alone: no model is made.
#pragma once

#include "models/config.h"

namespace sieve {

struct ParameterCount {
    int64_t main = 0;     // all but the indexers'
    int64_t indexer = 0;  // 0 in a classic model
};

// Elements of Transformer::main_parameters and indexer_parameters. `config` is valid.
ParameterCount parameter_count(const ModelConfig& config);

}  // namespace sieve
