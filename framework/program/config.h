// The configuration of an experiment: one list of keys serves the command line, config files, config.json,
// the presets and the help text.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "models/config.h"

namespace sieve {

struct ExperimentConfig {
    std::string preset = "medium";
    ModelConfig model;

    // Training.
    int64_t batch_size = 16;
    int64_t classic_steps = 3000, warmup_steps = 200, sparse_steps = 3000;
    std::string optimizer = "muon";  // muon: with AdamW for what is no hidden matrix | adamw: alone
    double learning_rate = 3e-3, warmup_lr = 1e-3;
    double sparse_learning_rate = 0;  // 0: learning_rate, or a tenth of it with sparse_init = classic
    double load_balancing_weight = 0.01, indexer_loss_weight = 1;
    double bias_update_speed = 0.001;  // of the routers' biases (router sigmoid_bias)
    double weight_decay = 0.1, grad_clip = 1;
    int64_t eval_every = 100, eval_batches = 16;
    std::string sparse_init = "scratch";  // scratch | classic
    int64_t seed = 42;

    // Data.
    std::string data, tokenizer;                // empty: the default corpus, a tokenizer trained on it
    std::string protocol = "heldout";           // heldout | overlap
    int64_t max_tokens = 0, num_documents = 0;  // 0: all
    double val_fraction = 0.1;
    std::string cache_dir = "data/cache";

    // Running.
    std::string results_dir = "results";
    std::string stages = "classic,sparse,compare";
    std::string device = "auto";     // auto | cpu | cuda
    std::string precision = "fp32";  // fp32 | tf32 | bf16: of matrix products and attention on a CUDA device
    int64_t threads = 0;             // 0: all cores
    int64_t memory_limit_mb = 0;     // 0: none
    int64_t checkpoint_every = 100;
    bool tensorboard = false;
};

struct ConfigKey {
    const char* name;
    const char* group;
    const char* help;
    std::variant<int64_t*, double*, std::string*, bool*, PerLayer*> value;
    bool saved;  // part of config.json: it shapes the result, not only where and how the run happens
};

std::vector<ConfigKey> config_keys(ExperimentConfig& config);

// One key by its name. set_config_value reads the text as the command line would and throws a usage error for
// an unknown key (with the nearest name) and for a text that is not of the key's type.
void set_config_value(ExperimentConfig& config, const std::string& key, const std::string& text);
std::string config_value(const ExperimentConfig& config, const std::string& key);

// small, medium, large. Throws a usage error that lists them.
void apply_preset(ExperimentConfig& config, const std::string& name);
// Throws a usage error naming the key, its value and the remedy.
void validate(const ExperimentConfig& config);

nlohmann::ordered_json config_to_json(const ExperimentConfig& config);
// Reads the keys that are present; unknown keys and wrong types are bad_file errors that begin with `source`.
// With `ignore_unknown`, keys that this program does not know are left aside.
ExperimentConfig config_from_json(const nlohmann::ordered_json& json, const std::string& source,
                                  bool ignore_unknown = false);

void to_json(nlohmann::ordered_json& json, const PerLayer& numbers);  // a number, or a list of them
// "64" or "64,64,32". A usage error that begins with `key` for anything else.
PerLayer per_layer_from_text(const std::string& key, const std::string& text);

// The known name nearest to a mistyped one; empty when none is near.
std::string nearest_name(const std::string& mistyped, const std::vector<std::string>& known);

}  // namespace sieve
