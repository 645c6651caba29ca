// config.json of a Hugging Face folder, which says what model the weights beside it make.
#include "framework/program/hf_config.h"

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/train/hf_folder.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

using Json = nlohmann::ordered_json;

Json tiny(const char* type) {
    return {{"model_type", type},
            {"vocab_size", 11},
            {"hidden_size", 8},
            {"intermediate_size", 6},
            {"moe_intermediate_size", 4},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 2},
            {"n_routed_experts", 2},
            {"num_experts_per_tok", 1},
            {"n_group", 1},
            {"topk_group", 1},
            {"kv_lora_rank", 4},
            {"q_lora_rank", 4},
            {"qk_rope_head_dim", 2},
            {"qk_nope_head_dim", 2},
            {"v_head_dim", 2},
            {"index_topk", 3},
            {"index_head_dim", 4},
            {"index_n_heads", 1},
            {"first_k_dense_replace", 1},
            {"max_position_embeddings", 16}};
}

std::vector<std::string> samples() {
    Json glm = tiny("glm_moe_dsa");
    glm["indexer_types"] = {"full", "shared"};
    glm["mlp_layer_types"] = {"dense", "sparse"};
    glm["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 4}};
    return {tiny("deepseek_v32").dump(2), glm.dump()};
}

// With the weights of both samples: the second's are a part of the first's.
std::string folder_of_samples() {
    const std::string folder = scratch_folder() + "/hf_model";
    ExperimentConfig config;
    read_hf_config(tiny("deepseek_v32"), "config.json", config);
    FinalModel model;
    model.config = config;
    model.model = std::make_unique<Transformer>(config.model, ParameterInit{});
    write_hf_folder(folder, model, {});
    return folder;
}

void read(const std::string& text) {
    static const std::string folder = folder_of_samples();
    ExperimentConfig config;
    const Json json = parse_json(text, "config.json");
    if (!read_hf_config(json, "config.json", config).empty())
        return;  // read_hf_folder would say so, each time
    write_file_atomic(folder + "/config.json", text);
    try {
        read_hf_folder(folder);
    } catch (const Error& e) {
        expect(e.kind() == ErrorKind::bad_file, "an error of a file is a bad file");
        throw;
    }
}

std::vector<std::string> attacks() {
    std::vector<std::string> all;
    for (const char* key :
         {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
          "num_attention_heads", "n_routed_experts", "n_shared_experts", "kv_lora_rank", "index_n_heads",
          "index_head_dim", "max_position_embeddings", "first_k_dense_replace"})
        for (const int64_t value : {int64_t{0}, int64_t{1} << 16, int64_t{1} << 32, int64_t{1} << 61}) {
            Json config = tiny("deepseek_v32");
            config[key] = value;
            all.push_back(config.dump());
        }
    Json many = tiny("glm_moe_dsa");
    many["num_hidden_layers"] = 1 << 16;
    many["n_routed_experts"] = 1 << 16;
    many["hidden_size"] = many["moe_intermediate_size"] = 1;
    all.push_back(many.dump());
    many["indexer_types"] = repeated("F", 4'000'000);
    all.push_back(many.dump());
    many["mlp_layer_types"] = Json::array();
    for (int i = 0; i < 300'000; ++i) many["mlp_layer_types"].push_back("dense");
    all.push_back(many.dump());
    return all;
}

const RegisteredFormat registered({"hf_config", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
