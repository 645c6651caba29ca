#include "framework/program/hf_config.h"

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
using Json = nlohmann::ordered_json;

namespace {

Json tiny(const char* model_type = "deepseek_v32") {
    return {{"model_type", model_type},
            {"vocab_size", 300},
            {"hidden_size", 32},
            {"intermediate_size", 48},
            {"moe_intermediate_size", 16},
            {"num_hidden_layers", 4},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 2},
            {"n_routed_experts", 4},
            {"num_experts_per_tok", 2},
            {"n_group", 1},
            {"topk_group", 1},
            {"kv_lora_rank", 16},
            {"q_lora_rank", 24},
            {"qk_rope_head_dim", 8},
            {"qk_nope_head_dim", 12},
            {"v_head_dim", 10},
            {"index_topk", 6},
            {"index_head_dim", 16},
            {"index_n_heads", 2},
            {"max_position_embeddings", 64}};
}

ModelConfig model_of(const Json& json) {
    ExperimentConfig config;
    read_hf_config(json, "c.json", config);
    return config.model;
}

ModelConfig with(const char* key, const Json& value, const char* model_type = "deepseek_v32") {
    Json json = tiny(model_type);
    json[key] = value;
    return model_of(json);
}

void refuses(const std::string& sentence, const char* key, const Json& value,
             const char* model_type = "deepseek_v32") {
    check_error("c.json: " + sentence, [&] { with(key, value, model_type); });
}

}  // namespace

TEST_CASE("hf config: what is always so, and defaults that differ by type") {
    const ModelConfig v32 = model_of(tiny()), glm = model_of(tiny("glm_moe_dsa")),
                      v3 = model_of(tiny("deepseek_v3"));
    CHECK(v32.is_sparse());
    CHECK(glm.is_sparse());
    CHECK(!v3.is_sparse());
    for (const ModelConfig& m : {v32, glm, v3}) {
        CHECK(m.attention_type == AttentionType::mla);
        CHECK(m.ffn == FeedForwardKind::swiglu);
        CHECK(m.router == RouterKind::sigmoid_bias);
        CHECK(m.indexer == IndexerKind::deepseek);
        CHECK(m.latent_norm_eps == 1e-6);
        CHECK(m.indexer_rope_dim == 8);
        CHECK(m.ffn_layers == "DDDM");
        CHECK(m.dense_d_ff == 48);
        CHECK(!m.tie_embeddings);
        CHECK(m.routed_scaling_factor == 2.5);
    }
    CHECK(v32.norm_eps == 1e-6);
    CHECK(glm.norm_eps == 1e-5);
    CHECK(v32.indexer_rope_layout == RopeLayout::half_split);
    CHECK(glm.indexer_rope_layout == RopeLayout::interleaved);
    CHECK(with("q_lora_rank", nullptr, "deepseek_v3").q_lora_rank == 0);
}

TEST_CASE("hf config: layers, experts and shared indexers by every key that says them") {
    CHECK(with("first_k_dense_replace", 0).ffn_layers.empty());
    CHECK(with("first_k_dense_replace", 9).ffn_layers == "DDDD");
    CHECK(with("mlp_layer_types", {"sparse", "dense", "sparse", "sparse"}).ffn_layers == "MDMM");
    Json aliased = tiny();
    aliased.erase("n_routed_experts");
    aliased["num_experts"] = 6;
    CHECK(model_of(aliased).num_experts == 6);
    refuses("num_experts is 6, want that of n_routed_experts, 4", "num_experts", 6);
    CHECK(with("indexer_types", {"full", "shared", "full", "shared"}, "glm_moe_dsa").index_share == "FSFS");
    CHECK(with("indexer_types", {"full", "full", "full", "full"}, "glm_moe_dsa").index_share.empty());
    CHECK(with("index_topk_pattern", "FSSF", "glm_moe_dsa").index_share == "FSSF");
    CHECK(with("index_topk_freq", 2, "glm_moe_dsa").index_share == "FFSF");
    CHECK(with("index_topk_freq", 2).index_share.empty());  // deepseek_v32 has no such key
}

TEST_CASE("hf config: RoPE in the keys of transformers 5 and in older ones") {
    CHECK(with("rope_theta", 5000).rope_base == 5000);
    CHECK(with("rope_parameters", {{"rope_theta", 7000.0}, {"rope_type", "default"}}).rope_base == 7000);
    const ModelConfig yarn = with("rope_scaling", {{"type", "yarn"},
                                                   {"factor", 40},
                                                   {"original_max_position_embeddings", 16},
                                                   {"beta_fast", 0},
                                                   {"mscale", 1.0},
                                                   {"mscale_all_dim", 0.5}});
    CHECK(yarn.rope_scaling == RopeScaling::yarn);
    CHECK(yarn.rope_factor == 40);
    CHECK(yarn.rope_original_max_seq_len == 16);
    CHECK(yarn.rope_beta_fast == 32);
    CHECK(yarn.rope_beta_slow == 1);
    CHECK(yarn.rope_mscale == 1);
    CHECK(yarn.rope_mscale_all_dim == 0.5);
    const ModelConfig bare = with("rope_parameters", {{"rope_type", "yarn"}, {"factor", nullptr}});
    CHECK(bare.rope_original_max_seq_len == 64);
    CHECK(bare.rope_factor == 1);
    CHECK(with("rope_scaling", nullptr).rope_scaling == RopeScaling::none);
    refuses("rope_parameters.rope_type is \"llama3\", want default or yarn", "rope_parameters",
            {{"rope_type", "llama3"}});
    refuses("rope_parameters.attention_factor is 2, want none: it is not computed here", "rope_parameters",
            {{"rope_type", "yarn"}, {"factor", 4}, {"attention_factor", 2}});
    refuses("rope_parameters.factor is 4, want none: it is not computed here without yarn", "rope_parameters",
            {{"rope_type", "default"}, {"factor", 4}});
}

TEST_CASE("hf config: what is not computed is refused by key and value") {
    refuses("model_type is \"llama\", want deepseek_v32, glm_moe_dsa or deepseek_v3", "model_type", "llama");
    refuses("model_type is null, want deepseek_v32, glm_moe_dsa or deepseek_v3", "model_type", nullptr);
    check_error("c.json: want one JSON object", [] { model_of(Json::array()); });
    refuses("hidden_act is \"gelu\", want \"silu\": here the experts are SwiGLU", "hidden_act", "gelu");
    refuses("scoring_func is \"softmax\", want \"sigmoid\": here the router scores by a sigmoid",
            "scoring_func", "softmax");
    refuses("attention_dropout is 0.1, want 0: here there is no dropout of attention", "attention_dropout",
            0.1);
    refuses("rope_interleave is false, want true: here the rotated dims are neighbouring pairs",
            "rope_interleave", false, "deepseek_v3");
    refuses("hidden_size is \"wide\", want a number", "hidden_size", "wide");
    refuses("hidden_size is true, want a number", "hidden_size", true);
    refuses("hidden_size is 1.5, want a whole number", "hidden_size", 1.5);
    refuses("hidden_size: 99999999999, want at most 16777216", "hidden_size", 99999999999);
    refuses("tie_word_embeddings is 1, want true or false", "tie_word_embeddings", 1);
    refuses("index_topk is [1,2], want a number", "index_topk", {1, 2});
    refuses("num_key_value_heads is 1, want num_attention_heads 2: latent attention has one of each",
            "num_key_value_heads", 1);
    refuses("mlp_layer_types is [\"dense\"], want a list of dense or sparse for each of 4 layers",
            "mlp_layer_types", {"dense"});
    refuses("mlp_layer_types[2] is \"moe\", want dense or sparse", "mlp_layer_types",
            {"dense", "sparse", "moe", "sparse"});
    refuses("index_topk_pattern is \"FSX\", want F or S for each of 4 layers", "index_topk_pattern", "FSX",
            "glm_moe_dsa");
    refuses("layer_types is \"full_attention\", want indexed_attention in every layer", "layer_types",
            {"full_attention"});
    refuses("quantization_config.quant_method is \"gptq\", want \"fp8\"", "quantization_config",
            {{"quant_method", "gptq"}});
    refuses("quantization_config.weight_block_size is [64,64], want [128,128]", "quantization_config",
            {{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}});
    refuses("index_skip_topk_offset is -1, want a whole number up to 16777216", "index_skip_topk_offset", -1,
            "glm_moe_dsa");
    refuses("intermediate_size is 0, want at least 1, as there are dense layers", "intermediate_size", 0);
}

TEST_CASE("hf config: keys that are not known are named") {
    Json json = tiny();
    json["sliding_window"] = 5;
    json["use_cache"] = true;
    ExperimentConfig config;
    CHECK(read_hf_config(json, "c.json", config) == std::vector<std::string>{"sliding_window"});
}

namespace {

// Reads what is written for the model that the document describes.
void check_round_trip(const Json& json) {
    ExperimentConfig config, again;
    read_hf_config(json, "c.json", config);
    const Json written = hf_config(config, "out");
    CHECK(read_hf_config(written, "out.json", again).empty());
    for (const char* key : {"model_type", "num_hidden_layers", "hidden_size"})
        CHECK(written[key] == json[key]);
    CHECK(config_to_json(config) == config_to_json(again));
}

}  // namespace

TEST_CASE("hf config: what is written is what was read, of every type") {
    for (const char* type : {"deepseek_v32", "glm_moe_dsa", "deepseek_v3"}) {
        INFO(type);
        Json json = tiny(type);
        check_round_trip(json);
        json["rope_parameters"] = {{"rope_type", "yarn"},  {"rope_theta", 5000.0},
                                   {"factor", 4.0},        {"original_max_position_embeddings", 16},
                                   {"beta_fast", 20},      {"beta_slow", 2},
                                   {"mscale_all_dim", 0.5}};
        json["attention_bias"] = true;
        json["tie_word_embeddings"] = true;
        json["rms_norm_eps"] = 1e-4;
        json["n_group"] = 2;
        json["norm_topk_prob"] = false;
        check_round_trip(json);
    }
    Json glm = tiny("glm_moe_dsa");
    glm["indexer_types"] = {"full", "shared", "shared", "full"};
    glm["mlp_layer_types"] = {"sparse", "dense", "sparse", "dense"};
    check_round_trip(glm);
    Json v3 = tiny("deepseek_v3");
    v3["q_lora_rank"] = nullptr;
    v3["first_k_dense_replace"] = 4;
    check_round_trip(v3);
}

TEST_CASE("hf config: a model that no folder describes is refused with the key that would make it one") {
    const auto refuse = [](const std::string& sentence, const char* key, const char* value,
                           const char* type = "deepseek_v32") {
        ExperimentConfig config;
        read_hf_config(tiny(type), "c.json", config);
        set_config_value(config, key, value);
        try {
            hf_config(config, "out");
            FAIL("was not refused: " << key);
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::usage);
            CHECK(std::string(e.what()) == "out: no Hugging Face folder describes this model: " + sentence);
        }
    };
    const std::string cannot = ", want ";
    refuse("attention_type is mha" + cannot + "mla", "attention_type", "mha");
    refuse("ffn is silu" + cannot + "swiglu", "ffn", "silu");
    refuse("router is softmax" + cannot + "sigmoid_bias", "router", "softmax");
    refuse("indexer is plain" + cannot + "deepseek", "indexer", "plain");
    refuse("selector is recent" + cannot + "indexer", "selector", "recent");
    refuse("indexer_precision is fp8" + cannot + "fp32", "indexer_precision", "fp8");
    refuse("latent_norm_eps is 1e-05" + cannot + "1e-06", "latent_norm_eps", "1e-5");
    refuse("q_lora_rank is 0 with an indexer" + cannot + "at least 1 (the indexer reads the query latent)",
           "q_lora_rank", "0");
    refuse("indexer_rope_dim is 4" + cannot + "qk_rope_head_dim 8", "indexer_rope_dim", "4");
    refuse("sparse_top_k is 4,4,6,6" + cannot + "one number for all layers", "sparse_top_k", "4,4,6,6");
    refuse("index_share is FSSS with indexer_rope_layout half" + cannot +
               "no S, or indexer_rope_layout interleaved (glm_moe_dsa, which has shared indexers)",
           "index_share", "FSSS");
    refuse("ffn_layers is MDMM" + cannot + "all D before all M in a classic model (deepseek_v3)",
           "ffn_layers", "MDMM", "deepseek_v3");
}

TEST_CASE("hf config: all that a model lacks is said at once") {
    ExperimentConfig config;
    apply_preset(config, "small");
    config.model.attention = AttentionKind::sparse;
    check_error(
        "out: no Hugging Face folder describes this model: attention_type is mha, want mla; ffn is silu, "
        "want swiglu; "
        "router is softmax, want sigmoid_bias; indexer is plain, want deepseek; latent_norm_eps is "
        "1.1920929e-07, "
        "want 1e-06; q_lora_rank is 0 with an indexer, want at least 1 (the indexer reads the query latent)",
        [&] { hf_config(config, "out"); });
}
