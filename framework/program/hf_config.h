// config.json of a Hugging Face folder: which model it describes, in our keys, and the other way round.
//
//   deepseek_v32   DeepSeek-V3.2: latent attention, a lightning indexer in each layer
//   glm_moe_dsa    GLM-5: the same, the indexer rotates neighbouring pairs, layers may share an indexer
//   deepseek_v3    DeepSeek-V3: no indexer; a classic model here
//
// Names, defaults and what is not read are those of transformers 5.24 (src/transformers/models/<type>). A key
// that is absent means that class's default. What is not computed here is refused by name, key and value.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/program/config.h"

namespace sieve {

enum class HfType { deepseek_v32, glm_moe_dsa, deepseek_v3 };
template <>
inline constexpr auto enum_names<HfType> =
    std::to_array<NamedValue<HfType>>({{HfType::deepseek_v32, "deepseek_v32"},
                                       {HfType::glm_moe_dsa, "glm_moe_dsa"},
                                       {HfType::deepseek_v3, "deepseek_v3"}});

// Sets the keys of `config` that the document decides: all that shape the model but what only training knows
// (dropout, router_noise), and for deepseek_v3 an indexer as deepseek_v32 would have it, of the heads, dims and
// k that `config` has. Returns the document's keys that are not known, which play no part. Throws a bad_file
// error that begins with `source`.
std::vector<std::string> read_hf_config(const nlohmann::ordered_json& json, const std::string& source,
                                        ExperimentConfig& config);

// The document that describes the model, for transformers 5. Throws a usage error that begins with `what` for a
// model that none of the types computes, with all keys that would make it one.
nlohmann::ordered_json hf_config(const ExperimentConfig& config, const std::string& what);

// read_hf_config of the config.json in a folder. Keys that are not known are named on stderr.
void read_hf_config_of(const std::string& folder, ExperimentConfig& config);

// Throws a usage error for a key that shapes the weights and is not what `folder` made it.
void check_shape_of_hf_folder(const ExperimentConfig& config, const ExperimentConfig& of_folder);

// Takes the model of `folder` as what the keys mean that nobody gives, as a preset does: that of its
// config.json, its tokenizer.json where there is one, windows no longer than its positions.
void apply_hf_folder(ExperimentConfig& config, const std::string& folder);

}  // namespace sieve
