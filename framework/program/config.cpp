#include "framework/program/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/core/error.h"

namespace sieve {

std::vector<ConfigKey> config_keys(ExperimentConfig& c) {
    ModelConfig& m = c.model;
    return {
        {"vocab_size", "Model", "vocabulary of the tokenizer that is trained", &m.vocab_size, true},
        {"d_model", "Model", "model width", &m.d_model, true},
        {"n_heads", "Model", "attention heads, of d_model / n_heads dims (mla has its own)", &m.n_heads,
         true},
        {"attention_type", "Model", "mha, gqa (query heads share keys and values) or mla (latent attention)",
         &m.attention_type, true},
        {"n_kv_heads", "Model", "key and value heads of --attention_type gqa", &m.n_kv_heads, true},
        {"n_layers", "Model", "blocks", &m.n_layers, true},
        {"d_ff", "Model", "hidden width of an expert", &m.d_ff, true},
        {"max_seq_len", "Model", "tokens in a training window", &m.max_seq_len, true},
        {"num_experts", "Model", "experts per block", &m.num_experts, true},
        {"expert_top_k", "Model", "experts that each token uses", &m.expert_top_k, true},
        {"shared_experts", "Model", "experts that every token uses, beside the chosen ones",
         &m.shared_experts, true},
        {"ffn", "Model", "silu, or swiglu: an expert is linear2(silu(linear1 x) * linear3 x)", &m.ffn, true},
        {"router", "Model", "softmax, or sigmoid_bias (DeepSeek-V3: a bias balances the experts)", &m.router,
         true},
        {"routed_scaling_factor", "Model", "what the weights of a token's experts sum to with sigmoid_bias",
         &m.routed_scaling_factor, true},
        {"dropout", "Model", "dropout rate", &m.dropout, true},
        {"router_noise", "Model", "std of the noise on router logits in training", &m.router_noise, true},
        {"norm_eps", "Model", "epsilon of RMSNorm", &m.norm_eps, true},
        {"rope_base", "Model", "base of the rotary embedding", &m.rope_base, true},
        {"init_std", "Model", "std of the initial weights", &m.init_std, true},

        {"q_lora_rank", "Latent attention (--attention_type mla)", "width of the query latent; 0: none",
         &m.q_lora_rank, true},
        {"kv_lora_rank", "Latent attention (--attention_type mla)", "width of the key and value latent",
         &m.kv_lora_rank, true},
        {"qk_nope_head_dim", "Latent attention (--attention_type mla)",
         "dims of a query and key head without RoPE", &m.qk_nope_head_dim, true},
        {"qk_rope_head_dim", "Latent attention (--attention_type mla)",
         "dims with RoPE; the keys' are shared by all heads", &m.qk_rope_head_dim, true},
        {"v_head_dim", "Latent attention (--attention_type mla)", "dims of a value head", &m.v_head_dim,
         true},

        {"indexer", "Sparse attention", "plain or deepseek (LayerNorm and RoPE in the indexer)", &m.indexer,
         true},
        {"indexer_heads", "Sparse attention", "heads of the lightning indexer", &m.indexer_heads, true},
        {"indexer_dim", "Sparse attention", "dims of an indexer head", &m.indexer_dim, true},
        {"indexer_precision", "Sparse attention",
         "of the scores that select keys: fp32, bf16, fp8 (DeepSeek-V3.2's) or int8", &m.indexer_precision,
         true},
        {"indexer_scale", "Sparse attention", "factor on indexer scores; 0: the indexer's own",
         &m.indexer_scale, true},
        {"sparse_top_k", "Sparse attention",
         "tokens that each query may read: one number, or one per layer (64,64,32,...)", &m.sparse_top_k,
         true},
        {"indexer_loss_weight", "Sparse attention", "weight of the alignment loss", &c.indexer_loss_weight,
         true},
        {"warmup_steps", "Sparse attention", "steps that train the indexer alone", &c.warmup_steps, true},
        {"warmup_lr", "Sparse attention", "learning rate of those steps", &c.warmup_lr, true},
        {"sparse_steps", "Sparse attention", "training steps of the sparse model", &c.sparse_steps, true},
        {"sparse_learning_rate", "Sparse attention",
         "peak learning rate of those steps; 0: learning_rate, a tenth of it with --sparse_init classic",
         &c.sparse_learning_rate, true},
        {"sparse_init", "Sparse attention", "scratch, or classic: start from the trained classic model",
         &c.sparse_init, true},

        {"batch_size", "Training", "windows per step", &c.batch_size, true},
        {"classic_steps", "Training", "training steps of the classic model", &c.classic_steps, true},
        {"optimizer", "Training", "muon (hidden matrices; AdamW for the rest) or adamw (for everything)",
         &c.optimizer, true},
        {"learning_rate", "Training", "peak learning rate (Muon; AdamW runs at a tenth)", &c.learning_rate,
         true},
        {"weight_decay", "Training", "of AdamW", &c.weight_decay, true},
        {"grad_clip", "Training", "largest global gradient norm", &c.grad_clip, true},
        {"load_balancing_weight", "Training", "weight of the experts' load-balancing loss",
         &c.load_balancing_weight, true},
        {"bias_update_speed", "Training", "change of a router's bias per step with --router sigmoid_bias",
         &c.bias_update_speed, true},
        {"eval_every", "Training", "steps between evaluations", &c.eval_every, true},
        {"eval_batches", "Training", "validation batches per evaluation; 0: all", &c.eval_batches, true},
        {"seed", "Training", "of weights, batches and dropout", &c.seed, true},

        {"data", "Data", "your own text: a file or a folder of .txt and .md files", &c.data, true},
        {"tokenizer", "Data", "a Hugging Face tokenizer.json (byte-level BPE); empty: train one",
         &c.tokenizer, true},
        {"protocol", "Data", "heldout: contiguous split; overlap: the original's leaking windows",
         &c.protocol, true},
        {"max_tokens", "Data", "use only the first so many tokens; 0: all", &c.max_tokens, true},
        {"num_documents", "Data", "use only the first so many documents; 0: all", &c.num_documents, true},
        {"val_fraction", "Data", "share of the text kept for validation", &c.val_fraction, true},
        {"cache_dir", "Data", "where encoded text is kept between runs", &c.cache_dir, false},

        {"results_dir", "Running", "where results are written", &c.results_dir, false},
        {"stages", "Running", "which of classic,sparse,compare to run", &c.stages, false},
        {"device", "Running", "auto, cpu or cuda", &c.device, false},
        {"precision", "Running", "of matrix products and attention on a GPU: fp32, tf32 or bf16",
         &c.precision, true},
        {"threads", "Running", "0: all cores", &c.threads, false},
        {"memory_limit_mb", "Running", "refuse to use more tensor memory than this; 0: no limit",
         &c.memory_limit_mb, false},
        {"checkpoint_every", "Running", "steps between checkpoints for --resume", &c.checkpoint_every, false},
        {"tensorboard", "Running", "also write TensorBoard event files beside metrics.jsonl and metrics.csv",
         &c.tensorboard, false},
    };
}

namespace {

ConfigKey find_key(ExperimentConfig& config, const std::string& name) {
    std::vector<std::string> known;
    for (const ConfigKey& key : config_keys(config)) {
        if (key.name == name) return key;
        known.emplace_back(key.name);
    }
    const std::string nearest = nearest_name(name, known);
    fail_usage(fmt::format("unknown key '{}'{} (--help lists all)", name,
                           nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
}

template <class Number>
bool parse_number(const std::string& text, Number& value) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    return parsed.ec == std::errc() && parsed.ptr == end && std::isfinite(static_cast<double>(value));
}

void parse(const std::string& text, int64_t* value) {
    if (!parse_number(text, *value)) throw std::invalid_argument("a whole number");
}
void parse(const std::string& text, double* value) {
    if (!parse_number(text, *value)) throw std::invalid_argument("a number");
}
void parse(const std::string& text, std::string* value) {
    *value = text;
}
void parse(const std::string& text, bool* value) {
    if (text != "true" && text != "false") throw std::invalid_argument("true or false");
    *value = text == "true";
}

}  // namespace

void set_config_value(ExperimentConfig& config, const std::string& name, const std::string& text) {
    const ConfigKey key = find_key(config, name);
    const auto set = [&](auto* value) {
        if constexpr (std::is_same_v<decltype(value), PerLayer*>)
            *value = per_layer_from_text(name, text);
        else
            parse(text, value);
    };
    try {
        std::visit(set, key.value);
    } catch (const std::invalid_argument& wanted) {
        fail_usage(fmt::format("{}: '{}', want {}", name, text, wanted.what()));
    }
}

std::string config_value(const ExperimentConfig& config, const std::string& name) {
    ExperimentConfig copy = config;
    const auto text = [](auto* value) {
        if constexpr (std::is_same_v<decltype(value), PerLayer*>)
            return to_string(*value);
        else
            return fmt::format("{}", *value);
    };
    return std::visit(text, find_key(copy, name).value);
}

void apply_preset(ExperimentConfig& c, const std::string& name) {
    ModelConfig& m = c.model;
    if (name == "small") {
        m.d_model = 128, m.n_heads = 4, m.n_layers = 4, m.d_ff = 256;
        m.max_seq_len = 64, c.batch_size = 32, m.num_experts = 2, m.expert_top_k = 1;
        m.indexer_heads = 2, m.indexer_dim = 32, m.sparse_top_k = 32;
        c.warmup_steps = 100, c.sparse_steps = 1500, c.classic_steps = 1500;
        c.learning_rate = 3e-3;
    } else if (name == "medium") {
        m.d_model = 256, m.n_heads = 8, m.n_layers = 6, m.d_ff = 512;
        m.max_seq_len = 128, c.batch_size = 16, m.num_experts = 4, m.expert_top_k = 2;
        m.indexer_heads = 4, m.indexer_dim = 64, m.sparse_top_k = 64;
        c.warmup_steps = 200, c.sparse_steps = 3000, c.classic_steps = 3000;
        c.learning_rate = 3e-3;
    } else if (name == "large") {
        m.d_model = 512, m.n_heads = 16, m.n_layers = 12, m.d_ff = 1024;
        m.max_seq_len = 256, c.batch_size = 8, m.num_experts = 8, m.expert_top_k = 2;
        m.indexer_heads = 8, m.indexer_dim = 128, m.sparse_top_k = 128;
        c.warmup_steps = 300, c.sparse_steps = 5000, c.classic_steps = 5000;
        c.learning_rate = 1e-3;
    } else {
        fail_usage(fmt::format("preset: '{}', want small, medium or large", name));
    }
    c.preset = name;
}

namespace {

void require_at_least(const char* key, int64_t value, int64_t least) {
    if (value < least) fail_usage(fmt::format("{}: {}, want at least {}", key, value, least));
}

void require_not_negative(const char* key, double value) {
    if (!(value >= 0)) fail_usage(fmt::format("{}: {}, want at least 0", key, value));
}

void check_stages(const std::string& stages) {
    std::stringstream list(stages);
    std::string stage;
    bool any = false;
    while (std::getline(list, stage, ',')) {
        if (stage != "classic" && stage != "sparse" && stage != "compare")
            fail_usage(fmt::format("stages: '{}', want a list of classic, sparse and compare", stages));
        any = true;
    }
    if (!any) fail_usage("stages: empty, want a list of classic, sparse and compare");
}

}  // namespace

void validate(const ExperimentConfig& c) {
    validate(c.model);
    require_at_least("batch_size", c.batch_size, 1);
    require_at_least("classic_steps", c.classic_steps, 1);
    require_at_least("warmup_steps", c.warmup_steps, 0);
    require_at_least("sparse_steps", c.sparse_steps, 1);
    require_at_least("eval_every", c.eval_every, 1);
    require_at_least("eval_batches", c.eval_batches, 0);
    require_at_least("checkpoint_every", c.checkpoint_every, 1);
    require_at_least("max_tokens", c.max_tokens, 0);
    require_at_least("num_documents", c.num_documents, 0);
    require_at_least("threads", c.threads, 0);
    require_at_least("memory_limit_mb", c.memory_limit_mb, 0);
    require_at_least("seed", c.seed, 0);
    require_not_negative("learning_rate", c.learning_rate);
    require_not_negative("warmup_lr", c.warmup_lr);
    require_not_negative("sparse_learning_rate", c.sparse_learning_rate);
    require_not_negative("weight_decay", c.weight_decay);
    require_not_negative("bias_update_speed", c.bias_update_speed);
    require_not_negative("load_balancing_weight", c.load_balancing_weight);
    require_not_negative("indexer_loss_weight", c.indexer_loss_weight);
    if (!(c.grad_clip > 0)) fail_usage(fmt::format("grad_clip: {}, want more than 0", c.grad_clip));
    if (!(c.val_fraction > 0 && c.val_fraction < 1))
        fail_usage(fmt::format("val_fraction: {}, want between 0 and 1", c.val_fraction));
    if (c.optimizer != "muon" && c.optimizer != "adamw")
        fail_usage(fmt::format("optimizer: '{}', want muon or adamw", c.optimizer));
    if (c.sparse_init != "scratch" && c.sparse_init != "classic")
        fail_usage(fmt::format("sparse_init: '{}', want scratch or classic", c.sparse_init));
    if (c.protocol != "heldout" && c.protocol != "overlap")
        fail_usage(fmt::format("protocol: '{}', want heldout or overlap", c.protocol));
    if (c.device != "auto" && c.device != "cpu" && c.device != "cuda")
        fail_usage(fmt::format("device: '{}', want auto, cpu or cuda", c.device));
    if (c.precision != "fp32" && c.precision != "tf32" && c.precision != "bf16")
        fail_usage(fmt::format("precision: '{}', want fp32, tf32 or bf16", c.precision));
    check_stages(c.stages);
}

void to_json(nlohmann::ordered_json& json, const PerLayer& numbers) {
    if (numbers.values().size() == 1)
        json = numbers.values().front();
    else
        json = numbers.values();
}

PerLayer per_layer_from_text(const std::string& key, const std::string& text) {
    std::vector<int64_t> values;
    const char *at = text.data(), *end = at + text.size();
    while (true) {
        int64_t value = 0;
        const auto parsed = std::from_chars(at, end, value);
        if (parsed.ec != std::errc() || (parsed.ptr != end && *parsed.ptr != ','))
            fail_usage(
                fmt::format("{}: '{}', want a whole number, or one per layer such as 64,64,32", key, text));
        values.push_back(value);
        if (parsed.ptr == end) return PerLayer(values);
        at = parsed.ptr + 1;
    }
}

nlohmann::ordered_json config_to_json(const ExperimentConfig& config) {
    ExperimentConfig copy = config;
    nlohmann::ordered_json json;
    json["preset"] = config.preset;
    json["attention"] = config.model.attention;
    for (const ConfigKey& key : config_keys(copy))
        if (key.saved) std::visit([&](auto* value) { json[key.name] = *value; }, key.value);
    return json;
}

namespace {

void assign(const nlohmann::ordered_json& from, int64_t* to) {
    if (!from.is_number_integer()) throw std::invalid_argument("a whole number");
    *to = from.get<int64_t>();
}

void assign(const nlohmann::ordered_json& from, double* to) {
    if (!from.is_number()) throw std::invalid_argument("a number");
    *to = from.get<double>();
}

void assign(const nlohmann::ordered_json& from, std::string* to) {
    if (!from.is_string()) throw std::invalid_argument("a text");
    *to = from.get<std::string>();
}

void assign(const nlohmann::ordered_json& from, bool* to) {
    if (!from.is_boolean()) throw std::invalid_argument("true or false");
    *to = from.get<bool>();
}

void assign(const nlohmann::ordered_json& from, PerLayer* to) {
    const bool list =
        from.is_array() && !from.empty() &&
        std::all_of(from.begin(), from.end(), [](const auto& v) { return v.is_number_integer(); });
    if (list)
        *to = PerLayer(from.get<std::vector<int64_t>>());
    else if (from.is_number_integer())
        *to = from.get<int64_t>();
    else
        throw std::invalid_argument("a whole number or a list of them");
}

}  // namespace

ExperimentConfig config_from_json(const nlohmann::ordered_json& json, const std::string& source,
                                  bool ignore_unknown) {
    if (!json.is_object()) fail_bad_file(fmt::format("{}: want one JSON object of config keys", source));
    ExperimentConfig config;
    std::vector<ConfigKey> keys = config_keys(config);
    keys.push_back({"preset", "", "", &config.preset, true});
    keys.push_back({"attention", "", "", &config.model.attention, true});
    for (const auto& [name, value] : json.items()) {
        const auto key =
            std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& k) { return k.name == name; });
        if (key == keys.end()) {
            if (ignore_unknown) continue;
            fail_bad_file(fmt::format("{}: unknown key '{}'", source, name));
        }
        try {
            std::visit([&](auto* to) { assign(value, to); }, key->value);
        } catch (const std::invalid_argument& wanted) {
            fail_bad_file(fmt::format("{}: {} is {}, want {}", source, name, value.dump(), wanted.what()));
        }
    }
    return config;
}

namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[b.size()];
}

}  // namespace

std::string nearest_name(const std::string& mistyped, const std::vector<std::string>& known) {
    std::string best;
    size_t best_distance = std::max<size_t>(2, mistyped.size() / 3) + 1;
    for (const std::string& name : known) {
        const size_t distance = edit_distance(mistyped, name);
        if (distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
    return best;
}

}  // namespace sieve
