#include "framework/program/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/error.h"
#include "framework/io/block_reader.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

// ---- the table

// A key of theirs, the key of ours that it is, and its default in each type, as JSON; null: the type has no
// such key. In the order in which they are written.
struct HfKey {
    const char *theirs, *ours;
    std::array<const char*, 3> defaults;  // by HfType

    const char* default_of(HfType type) const { return defaults.at(static_cast<size_t>(type)); }
};
constexpr HfKey keys[] = {
    //                         ours                     deepseek_v32 glm_moe_dsa deepseek_v3
    {"vocab_size", "vocab_size", {"129280", "154880", "129280"}},
    {"hidden_size", "d_model", {"7168", "6144", "7168"}},
    {"intermediate_size", "dense_d_ff", {"18432", "12288", "18432"}},
    {"moe_intermediate_size", "d_ff", {"2048", "2048", "2048"}},
    {"num_hidden_layers", "n_layers", {"61", "78", "61"}},
    {"num_attention_heads", "n_heads", {"128", "64", "128"}},
    {"n_shared_experts", "shared_experts", {"1", "1", "1"}},
    {"n_routed_experts", "num_experts", {"256", "256", "256"}},
    {"routed_scaling_factor", "routed_scaling_factor", {"2.5", "2.5", "2.5"}},
    {"kv_lora_rank", "kv_lora_rank", {"512", "512", "512"}},
    {"q_lora_rank", "q_lora_rank", {"1536", "2048", "1536"}},
    {"qk_rope_head_dim", "qk_rope_head_dim", {"64", "64", "64"}},
    {"v_head_dim", "v_head_dim", {"128", "256", "128"}},
    {"qk_nope_head_dim", "qk_nope_head_dim", {"128", "192", "128"}},
    {"n_group", "n_group", {"8", "1", "8"}},
    {"topk_group", "topk_group", {"4", "1", "4"}},
    {"num_experts_per_tok", "expert_top_k", {"8", "8", "8"}},
    {"norm_topk_prob", "norm_topk_prob", {"true", "true", "true"}},
    {"max_position_embeddings", "max_seq_len", {"163840", "202752", "4096"}},
    {"initializer_range", "init_std", {"0.02", "0.02", "0.02"}},
    {"rms_norm_eps", "norm_eps", {"1e-6", "1e-5", "1e-6"}},
    {"tie_word_embeddings", "tie_embeddings", {"false", "false", "false"}},
    {"attention_bias", "attention_bias", {"false", "false", "false"}},
    {"index_topk", "sparse_top_k", {"2048", "2048", nullptr}},
    {"index_head_dim", "indexer_dim", {"128", "128", nullptr}},
    {"index_n_heads", "indexer_heads", {"64", "32", nullptr}},
};

// Keys that can have one value here. Absent, they have it.
struct OnlyValue {
    const char *theirs, *value, *why;
};
constexpr OnlyValue only_values[] = {
    {"hidden_act", R"("silu")", "the experts are SwiGLU"},
    {"scoring_func", R"("sigmoid")", "the router scores by a sigmoid"},
    {"topk_method", R"("noaux_tc")", "the router chooses by score and bias"},
    {"attention_dropout", "0", "there is no dropout of attention"},
    {"mlp_bias", "false", "the feed-forward layers have no biases"},
    {"moe_layer_freq", "1", "mlp_layer_types says which layers are dense"},
    {"rope_interleave", "true", "the rotated dims are neighbouring pairs"},
    {"indexer_rope_interleave", "true", "transformers does not read it"},
    {"partial_rotary_factor", "1", "qk_rope_head_dim says how many dims are rotated"},
};

// What they always are, in our keys.
struct FixedKey {
    const char *ours, *value;
    bool sparse_only;
};
constexpr FixedKey fixed_keys[] = {
    {"attention_type", "mla", false},  {"ffn", "swiglu", false},
    {"router", "sigmoid_bias", false}, {"selector", "indexer", true},
    {"indexer", "deepseek", true},     {"indexer_weights", "on", true},
    {"indexer_pool", "1", true},       {"indexer_precision", "fp32", true},
    {"indexer_scale", "0", true},      {"i_know_this_leaks", "false", true},
};
constexpr double latent_norm_eps = 1e-6;  // whatever rms_norm_eps is

// Read, but not by that table, or without a meaning for what is computed.
constexpr const char* other_keys[] = {"model_type",
                                      "architectures",
                                      "dtype",
                                      "torch_dtype",
                                      "transformers_version",
                                      "auto_map",
                                      "use_cache",
                                      "bos_token_id",
                                      "eos_token_id",
                                      "pad_token_id",
                                      "pretraining_tp",
                                      "num_key_value_heads",
                                      "head_dim",
                                      "qk_head_dim",
                                      "first_k_dense_replace",
                                      "mlp_layer_types",
                                      "layer_types",
                                      "num_experts",
                                      "num_local_experts",
                                      "rope_parameters",
                                      "rope_theta",
                                      "rope_scaling",
                                      "original_max_position_embeddings",
                                      "indexer_types",
                                      "index_topk_pattern",
                                      "index_topk_freq",
                                      "index_skip_topk_offset",
                                      "quantization_config",
                                      "num_nextn_predict_layers",
                                      "num_mtp_layers",
                                      "output_router_logits",
                                      "aux_loss_alpha",
                                      "seq_aux",
                                      "router_aux_loss_coef",
                                      "ep_size",
                                      "_name_or_path",
                                      "id2label",
                                      "label2id",
                                      "return_dict",
                                      "output_hidden_states",
                                      "output_attentions",
                                      "is_encoder_decoder",
                                      "chunk_size_feed_forward",
                                      "problem_type",
                                      "_attn_implementation",
                                      "use_return_dict"};

// What the shapes of the weights follow from, in our keys; the last two where the folder has indexers.
constexpr const char* weight_keys[] = {"vocab_size",
                                       "d_model",
                                       "dense_d_ff",
                                       "d_ff",
                                       "n_layers",
                                       "n_heads",
                                       "shared_experts",
                                       "num_experts",
                                       "kv_lora_rank",
                                       "q_lora_rank",
                                       "qk_rope_head_dim",
                                       "v_head_dim",
                                       "qk_nope_head_dim",
                                       "tie_embeddings",
                                       "attention_bias",
                                       "ffn_layers",
                                       "attention_type",
                                       "ffn",
                                       "router"};
constexpr const char* indexer_keys[] = {"indexer_heads", "indexer_dim"};

constexpr const char* dense = "dense";
constexpr const char* sparse = "sparse";
constexpr const char* full = "full";
constexpr const char* shared = "shared";

// ---- reading

class HfReader {
  public:
    HfReader(const Json& json, const std::string& source, ExperimentConfig& config)
        : json_(json), source_(source), config_(config) {}

    std::vector<std::string> read() {
        if (!json_.is_object()) fail_bad_file(source_ + ": want one JSON object");
        const Json given = json_.value("model_type", Json());
        const auto type = value_named<HfType>(given.is_string() ? given.get<std::string>() : "");
        if (!type) refuse("model_type", given, one_of(names_of<HfType>()));
        type_ = *type;
        for (const OnlyValue& only : only_values) check_only(only);
        check_quantization();
        set_fixed_keys();
        for (const HfKey& key : keys) set(key);
        set_experts();
        check_key_value_heads();
        set_dense_layers();
        set_rope();
        set_indexers();
        check_config(config_, source_);
        return unknown_keys();
    }

  private:
    ModelConfig& model() { return config_.model; }

    [[noreturn]] void refuse(const std::string& key, const Json& value, const std::string& wanted) const {
        fail_bad_file(fmt::format("{}: {} is {}, want {}", source_, key, shown(value), wanted));
    }

    // Null is as good as absent.
    const Json* find(const char* key) const {
        const auto entry = json_.find(key);
        return entry == json_.end() || entry->is_null() ? nullptr : &*entry;
    }

    void check_only(const OnlyValue& only) const {
        const Json* value = find(only.theirs);
        const Json wanted = Json::parse(only.value);
        if (value && *value != wanted)
            refuse(only.theirs, *value, fmt::format("{}: here {}", only.value, only.why));
    }

    // E4M3 in blocks of 128 x 128; the tensors themselves say which of them are.
    void check_quantization() const {
        const Json* q = find("quantization_config");
        if (!q) return;
        const auto check = [&](const char* key, const Json& wanted, bool required) {
            const Json value = q->is_object() ? q->value(key, Json()) : Json();
            if (value.is_null() ? required : value != wanted)
                refuse(fmt::format("quantization_config.{}", key), value, wanted.dump());
        };
        check("quant_method", "fp8", true);
        check("fmt", "e4m3", false);
        check("weight_block_size", {128, 128}, false);
    }

    // Theirs into ours, of any type that a key has.
    void assign(const char* ours, const std::string& theirs, const Json& value) {
        ConfigKey key = config_key(config_, ours);
        set_from_json(key.value, source_, theirs, value);
        key.name = theirs.c_str();
        try {
            check_value(key);
        } catch (const Error& e) {
            fail_bad_file(source_ + ": " + e.what());
        }
    }

    void set(const HfKey& key) {
        if (!key.default_of(type_)) return;
        const bool without_query_latent = std::string_view(key.theirs) == "q_lora_rank" &&
                                          type_ == HfType::deepseek_v3 && json_.contains(key.theirs) &&
                                          json_[key.theirs].is_null();
        if (without_query_latent) {
            model().q_lora_rank = 0;
            return;
        }
        const Json* given = find(key.theirs);
        const Json usual = Json::parse(key.default_of(type_));
        if (given && given->is_boolean() != usual.is_boolean())
            refuse(key.theirs, *given, usual.is_boolean() ? "true or false" : "a number");
        if (given && !given->is_number() && !given->is_boolean()) refuse(key.theirs, *given, "a number");
        assign(key.ours, key.theirs, given ? *given : usual);
    }

    void set_fixed_keys() {
        for (const FixedKey& key : fixed_keys) set_config_value(config_, key.ours, key.value);
        model().latent_norm_eps = latent_norm_eps;
        model().attention = type_ == HfType::deepseek_v3 ? AttentionKind::classic : AttentionKind::sparse;
    }

    // Two other names of n_routed_experts.
    void set_experts() {
        for (const char* alias : {"num_local_experts", "num_experts"}) {
            const Json* value = find(alias);
            if (!value || (type_ == HfType::deepseek_v3 && std::string_view(alias) == "num_experts"))
                continue;
            if (const Json* usual = find("n_routed_experts"); usual && *usual != *value)
                refuse(alias, *value, fmt::format("that of n_routed_experts, {}", shown(*usual)));
            assign("num_experts", alias, *value);
        }
    }

    void check_key_value_heads() {
        const Json* heads = find("num_key_value_heads");
        if (heads && *heads != model().n_heads)
            refuse("num_key_value_heads", *heads,
                   fmt::format("num_attention_heads {}: latent attention has one of each", model().n_heads));
    }

    // A text for each layer, of two; what a list says of layers behind the last plays no part.
    std::string letters(const char* key, const Json& list, const char* first, const char* second,
                        const char* two_letters) {
        const auto layers = static_cast<size_t>(model().n_layers);
        if (!list.is_array() || list.size() < layers)
            refuse(key, list, fmt::format("a list of {} or {} for each of {} layers", first, second, layers));
        std::string text;
        for (size_t i = 0; i < layers; ++i) {
            if (list[i] != first && list[i] != second)
                refuse(fmt::format("{}[{}]", key, i), list[i], fmt::format("{} or {}", first, second));
            text += list[i] == first ? two_letters[0] : two_letters[1];
        }
        return text;
    }

    int64_t whole(const char* key, int64_t absent) const {
        const Json* value = find(key);
        if (!value) return absent;
        const std::optional<int64_t> number = whole_number_in(*value);
        constexpr int64_t most = 1 << 24;
        if (!number || *number < 0 || *number > most)
            refuse(key, *value, fmt::format("a whole number up to {}", most));
        return *number;
    }

    void set_dense_layers() {
        std::string& layers = model().ffn_layers;
        const Json* types = type_ == HfType::deepseek_v3 ? nullptr : find("mlp_layer_types");
        if (types) {
            layers = letters("mlp_layer_types", *types, dense, sparse, "DM");
        } else {
            const auto first = std::min(whole("first_k_dense_replace", 3), model().n_layers);
            layers = std::string(static_cast<size_t>(first), 'D') +
                     std::string(static_cast<size_t>(model().n_layers - first), 'M');
        }
        if (layers.find('D') == std::string::npos)
            layers.clear();
        else if (model().dense_d_ff < 1)
            refuse("intermediate_size", model().dense_d_ff, "at least 1, as there are dense layers");
    }

    // rope_parameters of transformers 5; older files have rope_scaling, which wins, and rope_theta.
    void set_rope() {
        const char* name = "rope_parameters";
        const Json* rope = find(name);
        if (const Json* older = find("rope_scaling"); older && *older != Json::object()) {
            rope = older;
            name = "rope_scaling";
        }
        const Json none = Json::object();
        if (!rope) rope = &none;
        if (!rope->is_object()) refuse(name, *rope, "an object");
        const auto part = [&](const char* key) -> const Json* {
            const auto entry = rope->find(key);
            return entry == rope->end() || entry->is_null() ? nullptr : &*entry;
        };
        const auto place = [&](const char* key) { return fmt::format("{}.{}", name, key); };
        const Json* theta = part("rope_theta") ? part("rope_theta") : find("rope_theta");
        assign("rope_base", place("rope_theta"), theta ? *theta : Json(10000));
        const Json* kind = part("rope_type") ? part("rope_type") : part("type");
        const bool yarn = kind && *kind == "yarn";
        if (kind && !yarn && *kind != "default") refuse(place("rope_type"), *kind, "default or yarn");
        model().rope_scaling = yarn ? RopeScaling::yarn : RopeScaling::none;
        for (const auto& [key, value] : rope->items()) check_rope_part(place(key.c_str()), key, value, yarn);
        if (!yarn) return;
        for (const auto& [theirs, ours] :
             {std::pair{"mscale", "rope_mscale"}, std::pair{"mscale_all_dim", "rope_mscale_all_dim"},
              std::pair{"beta_fast", "rope_beta_fast"}, std::pair{"beta_slow", "rope_beta_slow"},
              std::pair{"original_max_position_embeddings", "rope_original_max_seq_len"}})
            if (const Json* value = part(theirs)) assign(ours, place(theirs), *value);
        set_yarn_defaults(part("factor"), part("original_max_position_embeddings"));
    }

    void check_rope_part(const std::string& place, const std::string& key, const Json& value,
                         bool yarn) const {
        static const std::set<std::string> any{"rope_theta", "rope_type", "type"},
            of_yarn{"factor",        "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale",
                    "mscale_all_dim"};
        if (value.is_null() || any.contains(key) || (yarn && of_yarn.contains(key))) return;
        if ((key == "truncate" && value == true) || (key == "partial_rotary_factor" && value == 1)) return;
        refuse(place, value, fmt::format("none: it is not computed here{}", yarn ? "" : " without yarn"));
    }

    void set_yarn_defaults(const Json* factor, const Json* original) {
        ModelConfig& m = model();
        if (const Json* outside = find("original_max_position_embeddings"))
            assign("rope_original_max_seq_len", "original_max_position_embeddings", *outside);
        else if (!original)
            m.rope_original_max_seq_len = m.max_seq_len;
        if (factor)
            assign("rope_factor", "rope_parameters.factor", *factor);
        else
            m.rope_factor = static_cast<double>(m.max_seq_len) /
                            static_cast<double>(std::max<int64_t>(m.rope_original_max_seq_len, 1));
        if (m.rope_beta_fast == 0) m.rope_beta_fast = 32;  // as transformers: 0 is none
        if (m.rope_beta_slow == 0) m.rope_beta_slow = 1;
    }

    void set_indexers() {
        ModelConfig& m = model();
        m.index_share.clear();
        m.indexer_rope_dim = m.qk_rope_head_dim;
        m.indexer_rope_layout =
            type_ == HfType::glm_moe_dsa ? RopeLayout::interleaved : RopeLayout::half_split;
        if (type_ == HfType::deepseek_v3) m.indexer_dim = std::max(m.indexer_dim, m.qk_rope_head_dim);
        if (const Json* types = find("layer_types"); types && type_ != HfType::deepseek_v3)
            for (const Json& each : *types)
                if (each != "indexed_attention" && each != "deepseek_sparse_attention")
                    refuse("layer_types", each, "indexed_attention in every layer");
        if (type_ == HfType::glm_moe_dsa) m.index_share = shared_indexers();
        if (m.index_share.find('S') == std::string::npos) m.index_share.clear();
    }

    std::string shared_indexers() {
        if (const Json* types = find("indexer_types"))
            return letters("indexer_types", *types, full, shared, "FS");
        if (const Json* pattern = find("index_topk_pattern")) {
            if (!pattern->is_string()) return letters("index_topk_pattern", *pattern, full, shared, "FS");
            const auto text = pattern->get<std::string>();
            if (static_cast<int64_t>(text.size()) < model().n_layers ||
                text.find_first_not_of("FS") != std::string::npos)
                refuse("index_topk_pattern", *pattern,
                       fmt::format("F or S for each of {} layers", model().n_layers));
            return text.substr(0, static_cast<size_t>(model().n_layers));
        }
        const int64_t every = std::max<int64_t>(whole("index_topk_freq", 1), 1),
                      offset = whole("index_skip_topk_offset", 2);
        std::string text;
        for (int64_t i = 0; i < model().n_layers; ++i)
            text += std::max<int64_t>(i - offset + 1, 0) % every == 0 ? 'F' : 'S';
        return text;
    }

    std::vector<std::string> unknown_keys() const {
        std::set<std::string> known(std::begin(other_keys), std::end(other_keys));
        for (const HfKey& key : keys) known.insert(key.theirs);
        for (const OnlyValue& only : only_values) known.insert(only.theirs);
        std::vector<std::string> unknown;
        for (const auto& [key, value] : json_.items())
            if (!known.contains(key)) unknown.push_back(key);
        return unknown;
    }

    const Json& json_;
    const std::string& source_;
    ExperimentConfig& config_;
    HfType type_ = HfType::deepseek_v32;
};

}  // namespace

std::vector<std::string> read_hf_config(const Json& json, const std::string& source,
                                        ExperimentConfig& config) {
    return HfReader(json, source, config).read();
}

void read_hf_config_of(const std::string& folder, ExperimentConfig& config) {
    constexpr size_t most = 16 << 20;
    const std::string path = folder + "/config.json";
    const Json json = parse_json(read_small_file(path, most), path);
    const std::vector<std::string> unknown = read_hf_config(json, path, config);
    if (!unknown.empty())
        fmt::print(stderr, "note: {}: not known, and left aside: {}\n", path,
                   shortened(enumerated(unknown, "and")));
}

void apply_hf_folder(ExperimentConfig& config, const std::string& folder) {
    const int64_t window = config.model.max_seq_len;
    read_hf_config_of(folder, config);
    config.init_from = folder;
    config.model.max_seq_len = std::min(window, config.model.max_seq_len);
    if (const std::string tokenizer = folder + "/tokenizer.json"; std::filesystem::exists(tokenizer))
        config.tokenizer = tokenizer;
}

void check_shape_of_hf_folder(const ExperimentConfig& config, const ExperimentConfig& of_folder) {
    const auto check = [&](const char* key) {
        const std::string is = config_value(config, key), was = config_value(of_folder, key);
        if (is != was)
            fail_usage(
                fmt::format("{}: {}, but the weights of init_from {} are of a model of {}; leave it out", key,
                            is, of_folder.init_from, was));
    };
    for (const char* key : weight_keys) check(key);
    if (of_folder.model.is_sparse())
        for (const char* key : indexer_keys) check(key);
}

// ---- writing

namespace {

class HfWriter {
  public:
    HfWriter(const ExperimentConfig& config, const std::string& what) : config_(config), what_(what) {}

    Json write() {
        check();
        const HfType type = type_of();
        Json json{{"architectures", {architecture(type)}}, {"model_type", name_of(type)}};
        for (const HfKey& key : keys)
            if (key.default_of(type)) json[key.theirs] = json_of(config_key(config_, key.ours).value);
        json["intermediate_size"] = model().dense_width();
        if (model().q_lora_rank == 0) json["q_lora_rank"] = nullptr;
        if (model().is_sparse()) json["index_topk"] = model().sparse_top_k.values().front();
        json["num_key_value_heads"] = model().n_heads;
        json["hidden_act"] = "silu";
        json["rope_parameters"] = rope();
        write_layers(json, type);
        return json;
    }

  private:
    const ModelConfig& model() const { return config_.model; }

    void lack(const std::string& key, const std::string& value, const std::string& wanted) {
        lacks_ += fmt::format("{}{} is {}, want {}", lacks_.empty() ? "" : "; ", key, value, wanted);
    }

    // All at once: a model may have to be trained again for each.
    void check() {
        for (const FixedKey& key : fixed_keys) {
            const std::string value = config_value(config_, key.ours);
            if ((model().is_sparse() || !key.sparse_only) && value != key.value)
                lack(key.ours, value, key.value);
        }
        check_model();
        if (model().is_sparse()) check_indexers();
        if (!lacks_.empty())
            fail_usage(fmt::format("{}: no Hugging Face folder describes this model: {}", what_, lacks_));
    }

    void check_model() {
        const ModelConfig& m = model();
        const double eps = m.latent_norm_eps > 0 ? m.latent_norm_eps : m.norm_eps;
        if (eps != latent_norm_eps)
            lack("latent_norm_eps", fmt::format("{}", eps), fmt::format("{}", latent_norm_eps));
        if (m.has_experts() && m.num_experts < 2)
            lack("num_experts", std::to_string(m.num_experts), "at least 2 (transformers' groups have them)");
        if (!m.is_sparse() && m.dense_layers() != leading_dense_layers())
            lack("ffn_layers", m.ffn_layers, "all D before all M in a classic model (deepseek_v3)");
    }

    void check_indexers() {
        const ModelConfig& m = model();
        if (m.q_lora_rank == 0)
            lack("q_lora_rank", "0 with an indexer", "at least 1 (the indexer reads the query latent)");
        if (m.indexer_rotary_dims() != m.qk_rope_head_dim)
            lack("indexer_rope_dim", std::to_string(m.indexer_rotary_dims()),
                 fmt::format("qk_rope_head_dim {}", m.qk_rope_head_dim));
        const std::vector<int64_t>& k = m.sparse_top_k.values();
        if (std::any_of(k.begin(), k.end(), [&](int64_t each) { return each != k.front(); }))
            lack("sparse_top_k", to_string(m.sparse_top_k), "one number for all layers");
        if (type_of() == HfType::deepseek_v32 && m.own_indexes() < m.n_layers)
            lack("index_share", m.index_share + " with indexer_rope_layout half",
                 "no S, or indexer_rope_layout interleaved (glm_moe_dsa, which has shared indexers)");
    }

    HfType type_of() const {
        if (!model().is_sparse()) return HfType::deepseek_v3;
        return model().indexer_rope_layout == RopeLayout::interleaved ? HfType::glm_moe_dsa
                                                                      : HfType::deepseek_v32;
    }

    int64_t leading_dense_layers() const {
        const std::string& letters = model().ffn_layers;
        const size_t first_sparse = std::min(letters.find('M'), letters.size());
        return static_cast<int64_t>(first_sparse);
    }

    static const char* architecture(HfType type) {
        switch (type) {
            case HfType::deepseek_v32:
                return "DeepseekV32ForCausalLM";
            case HfType::glm_moe_dsa:
                return "GlmMoeDsaForCausalLM";
            case HfType::deepseek_v3:
                return "DeepseekV3ForCausalLM";
        }
        return "?";
    }

    Json rope() const {
        const ModelConfig& m = model();
        if (m.rope_scaling == RopeScaling::none)
            return {{"rope_theta", m.rope_base}, {"rope_type", "default"}};
        Json rope{{"rope_theta", m.rope_base},
                  {"rope_type", "yarn"},
                  {"factor", m.rope_factor},
                  {"original_max_position_embeddings", m.rope_original_max_seq_len},
                  {"beta_fast", m.rope_beta_fast},
                  {"beta_slow", m.rope_beta_slow}};
        if (m.rope_mscale > 0) rope["mscale"] = m.rope_mscale;
        if (m.rope_mscale_all_dim > 0) rope["mscale_all_dim"] = m.rope_mscale_all_dim;
        return rope;
    }

    void write_layers(Json& json, HfType type) const {
        const ModelConfig& m = model();
        json["first_k_dense_replace"] = leading_dense_layers();
        if (type == HfType::deepseek_v3) {
            json["num_nextn_predict_layers"] = 0;
            return;
        }
        Json types = Json::array(), indexers = Json::array();
        for (int64_t layer = 0; layer < m.n_layers; ++layer) {
            types.push_back(m.is_dense_layer(layer) ? dense : sparse);
            indexers.push_back(m.shares_index(layer) ? shared : full);
        }
        json["mlp_layer_types"] = std::move(types);
        if (type == HfType::glm_moe_dsa) json["indexer_types"] = std::move(indexers);
    }

    ExperimentConfig config_;
    const std::string& what_;
    std::string lacks_;
};

}  // namespace

Json hf_config(const ExperimentConfig& config, const std::string& what) {
    return HfWriter(config, what).write();
}

}  // namespace sieve
