// How many parameters a model has, from its configuration alone: no model is made.
#pragma once

#include "models/config.h"

namespace sieve {

// Each is the largest int64 where there are more.
struct ParameterCount {
    int64_t main = 0;     // all but the indexers'
    int64_t indexer = 0;  // 0 in a classic model
    int64_t total() const;
};

// Elements of Transformer::main_parameters and indexer_parameters. The values of `config` are valid each by
// itself, and n_heads divides d_model.
ParameterCount parameter_count(const ModelConfig& config);

}  // namespace sieve
