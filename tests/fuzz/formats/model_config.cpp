// config.json inside a final_model.pt, which says what model the weights make.
#include <nlohmann/json.hpp>

#include "framework/data/tokenizer.h"
#include "framework/io/pt.h"
#include "framework/train/checkpoint.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

ExperimentConfig tiny_config() {
    ExperimentConfig config;
    ModelConfig& m = config.model;
    m.vocab_size = 257, m.d_model = 8, m.n_heads = 2, m.n_layers = 1, m.d_ff = 8, m.max_seq_len = 8;
    m.num_experts = 2, m.expert_top_k = 1, m.indexer_heads = 1, m.indexer_dim = 4, m.sparse_top_k = 4;
    return config;
}

std::vector<std::string> samples() {
    return {config_to_json(tiny_config()).dump(2)};
}

void read(const std::string& config) {
    static const NamedTensors weights = Transformer(tiny_config().model, ParameterInit{}).state();
    static const std::string tokenizer = Tokenizer::train("a text", 257).to_json();
    const std::string path = scratch_file("model.pt", "");
    write_pt(path, weights, {{"config.json", config}, {"tokenizer.json", tokenizer}});
    read_final_model(path);
}

std::vector<std::string> attacks() {
    std::vector<std::string> all;
    for (const char* key :
         {"d_model", "n_layers", "d_ff", "num_experts", "vocab_size", "shared_experts", "indexer_heads",
          "indexer_dim", "n_heads", "max_seq_len", "sparse_top_k", "dense_d_ff", "n_group", "topk_group",
          "indexer_rope_dim", "rope_original_max_seq_len"})
        for (const int64_t value : {int64_t{0}, int64_t{1} << 16, int64_t{1} << 32, int64_t{1} << 61}) {
            nlohmann::ordered_json config = config_to_json(tiny_config());
            config[key] = value;
            all.push_back(config.dump());
        }
    return all;
}

const RegisteredFormat registered({"model_config", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
