// Trainings of milliseconds, of every part that a model may be made of.
#pragma once

#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "framework/program/config.h"

namespace sieve::testing {

// Two layers of 32, 24 tokens, 8 windows; 30 steps, 5 of warm-up.
ExperimentConfig tiny_config(AttentionKind attention);

struct NamedConfig {
    std::string name;
    ExperimentConfig config;
};
// The plain model; grouped queries, SwiGLU and a sigmoid router with shared experts; latent attention with
// DeepSeek's indexer and another k in each layer; AdamW alone.
std::vector<NamedConfig> tiny_variants(AttentionKind attention);

// 20,000 tokens of the excerpt, for all of them.
const Dataset& tiny_data();

}  // namespace sieve::testing
