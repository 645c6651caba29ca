#include "framework/program/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/data/unicode.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

// "what chooses the keys: indexer (the keys that ...), recent (the last keys)"
const char* selector_help() {
    static const std::string help = [] {
        std::string text = "what chooses the keys: ";
        for (const SelectorKind& kind : selector_kinds())
            text += fmt::format("{}{} ({})", &kind == &selector_kinds().front() ? "" : ", ", kind.name,
                                kind.what);
        return text;
    }();
    return help.c_str();
}

// The largest values of keys (ConfigKey::most). Those of the model bound each size; models/config.h bounds
// their product.
constexpr int64_t largest_vocabulary = 1 << 24;  // ids of a tokenizer.json
constexpr int64_t largest_width = 1 << 24;       // of anything in elements or tokens
constexpr int64_t largest_batch = 1 << 20;
constexpr int64_t most_parts = 1 << 16;  // heads, experts
constexpr int64_t most_layers = 1 << 16;
constexpr int64_t most_steps = 1'000'000'000'000;         // each has 2^16 random streams of its stage's 2^56
constexpr int64_t largest_count = 1'000'000'000'000'000;  // tokens, documents, MiB
constexpr int64_t largest_seed = int64_t{1} << 53;        // every reader of JSON has its bits

}  // namespace

bool concerns(const ConfigKey& key, AttentionKind variant, const ExperimentConfig& config) {
    if (variant == AttentionKind::classic) return !key.is(KeyNature::sparse_only);
    return !key.is(KeyNature::classic_only) || config.sparse_init == SparseInit::classic;
}

std::vector<ConfigKey> config_keys(ExperimentConfig& c) {
    using enum KeyNature;
    ModelConfig& m = c.model;
    return {
        {"vocab_size", "Model", "vocabulary of the tokenizer that is trained", &m.vocab_size, model | data,
         largest_vocabulary},
        {"d_model", "Model", "model width", &m.d_model, model, largest_width},
        {"n_heads", "Model", "attention heads, of d_model / n_heads dims (mla has its own)", &m.n_heads,
         model, most_parts},
        {"attention_type", "Model", "mha, gqa (query heads share keys and values) or mla (latent attention)",
         &m.attention_type, model},
        {"n_kv_heads", "Model", "key and value heads of --attention_type gqa", &m.n_kv_heads, model,
         most_parts},
        {"n_layers", "Model", "blocks", &m.n_layers, model, most_layers},
        {"d_ff", "Model", "hidden width of an expert", &m.d_ff, model, largest_width},
        {"tie_embeddings", "Model", "whether the head's matrix is the embedding; false: it has its own",
         &m.tie_embeddings, model},
        {"max_seq_len", "Model", "tokens in a training window", &m.max_seq_len, model | data, largest_width},
        {"num_experts", "Model", "experts per block", &m.num_experts, model, most_parts},
        {"expert_top_k", "Model", "experts that each token uses", &m.expert_top_k, model, most_parts},
        {"shared_experts", "Model", "experts that every token uses, beside the chosen ones",
         &m.shared_experts, model, most_parts},
        {"ffn", "Model", "silu, or swiglu: an expert is linear2(silu(linear1 x) * linear3 x)", &m.ffn, model},
        {"ffn_layers", "Model",
         "a letter a layer: M has experts, D one dense feed-forward (DMMM...); empty: all M", &m.ffn_layers,
         model | may_be_empty},
        {"dense_d_ff", "Model", "hidden width of a dense layer (--ffn_layers); 0: d_ff", &m.dense_d_ff, model,
         largest_width},
        {"router", "Model", "softmax, or sigmoid_bias (DeepSeek-V3: a bias balances the experts)", &m.router,
         model},
        {"router_weights", "Model",
         "how a token's experts are weighed with softmax: selected (softmax over the chosen: with "
         "expert_top_k 1 "
         "always 1, and the router is not trained), all (over all experts), scaled (that times num_experts) "
         "or "
         "straight_through (selected, with the gradient of all)",
         &m.router_weights, model},
        {"routed_scaling_factor", "Model", "what the weights of a token's experts sum to with sigmoid_bias",
         &m.routed_scaling_factor, model},
        {"norm_topk_prob", "Model",
         "whether the scores of a token's experts are divided by their sum with sigmoid_bias; false: "
         "routed_scaling_factor times the scores themselves",
         &m.norm_topk_prob, model},
        {"n_group", "Model", "groups of neighbouring experts with sigmoid_bias", &m.n_group, model,
         most_parts},
        {"topk_group", "Model", "groups that each token may use, those with the best two experts",
         &m.topk_group, model, most_parts},
        {"dropout", "Model", "dropout rate", &m.dropout, model},
        {"router_noise", "Model", "std of the noise on router logits in training", &m.router_noise, model},
        {"norm_eps", "Model", "epsilon of RMSNorm", &m.norm_eps, model},
        {"rope_base", "Model", "base of the rotary embedding", &m.rope_base, model},
        {"rope_scaling", "Model", "none, or yarn: angles for texts longer than rope_original_max_seq_len",
         &m.rope_scaling, model},
        {"rope_factor", "Model", "how much longer, with yarn", &m.rope_factor, model},
        {"rope_original_max_seq_len", "Model", "tokens in the windows of the training before yarn",
         &m.rope_original_max_seq_len, model, largest_width},
        {"rope_beta_fast", "Model", "turns in such a window from which on yarn leaves a frequency alone",
         &m.rope_beta_fast, model},
        {"rope_beta_slow", "Model",
         "turns in such a window below which yarn divides a frequency by the factor", &m.rope_beta_slow,
         model},
        {"rope_mscale", "Model", "of the magnitude of yarn's rotations; 0: none", &m.rope_mscale, model},
        {"rope_mscale_all_dim", "Model",
         "of the magnitude that yarn moves from rotations to the attention scale; 0: none",
         &m.rope_mscale_all_dim, model},
        {"init_std", "Model", "std of the initial weights", &m.init_std, model},

        {"q_lora_rank", "Latent attention (--attention_type mla)", "width of the query latent; 0: none",
         &m.q_lora_rank, model, largest_width},
        {"kv_lora_rank", "Latent attention (--attention_type mla)", "width of the key and value latent",
         &m.kv_lora_rank, model, largest_width},
        {"qk_nope_head_dim", "Latent attention (--attention_type mla)",
         "dims of a query and key head without RoPE", &m.qk_nope_head_dim, model, largest_width},
        {"qk_rope_head_dim", "Latent attention (--attention_type mla)",
         "dims with RoPE; the keys' are shared by all heads", &m.qk_rope_head_dim, model, largest_width},
        {"v_head_dim", "Latent attention (--attention_type mla)", "dims of a value head", &m.v_head_dim,
         model, largest_width},
        {"latent_norm_eps", "Latent attention (--attention_type mla)",
         "epsilon of the latents' RMSNorm; 0: norm_eps", &m.latent_norm_eps, model},
        {"attention_bias", "Latent attention (--attention_type mla)",
         "whether q_a_proj, kv_a_proj_with_mqa and w_o have a bias", &m.attention_bias, model},

        {"selector", "Sparse attention", selector_help(), &m.selector, model | sparse_only},
        {"sink_tokens", "Sparse attention", "first tokens of the text that --selector sink_recent reads",
         &m.sink_tokens, model | sparse_only, largest_width},
        {"selector_seed", "Sparse attention", "of the keys that --selector random draws", &m.selector_seed,
         model | sparse_only, largest_seed},
        {"selector_block", "Sparse attention", "tokens in a block of --selector block_mean and hisa",
         &m.selector_block, model | sparse_only, largest_width},
        {"hisa_candidates", "Sparse attention",
         "keys that --selector hisa scores one by one, as a multiple of sparse_top_k", &m.hisa_candidates,
         model | sparse_only, most_parts},
        {"indexer", "Sparse attention", "plain or deepseek (LayerNorm and RoPE in the indexer)", &m.indexer,
         model | sparse_only},
        {"indexer_heads", "Sparse attention", "heads of the lightning indexer", &m.indexer_heads,
         model | sparse_only, most_parts},
        {"indexer_dim", "Sparse attention", "dims of an indexer head", &m.indexer_dim, model | sparse_only,
         largest_width},
        {"indexer_rope_dim", "Sparse attention",
         "first dims of an indexer head that --indexer deepseek rotates; 0: half of them",
         &m.indexer_rope_dim, model | sparse_only, largest_width},
        {"indexer_rope_layout", "Sparse attention",
         "pairs that it rotates: half (i and i + indexer_rope_dim / 2, DeepSeek-V3.2's) or interleaved "
         "(neighbours, GLM's)",
         &m.indexer_rope_layout, model | sparse_only},
        {"indexer_precision", "Sparse attention",
         "of the scores that select keys: fp32, bf16, fp8 (DeepSeek-V3.2's) or int8", &m.indexer_precision,
         model | sparse_only},
        {"indexer_weights", "Sparse attention", "on, or off: all heads of the indexer count alike",
         &m.indexer_weights, model | sparse_only},
        {"indexer_pool", "Sparse attention",
         "tokens whose keys --selector indexer averages and selects together; 1: each by itself",
         &m.indexer_pool, model | sparse_only, largest_width},
        {"indexer_frozen", "Sparse attention",
         "the indexer keeps its initial weights: no warm-up, no alignment loss", &c.indexer_frozen,
         training | sparse_only},
        {"indexer_scale", "Sparse attention", "factor on indexer scores; 0: the indexer's own",
         &m.indexer_scale, model | sparse_only},
        {"sparse_top_k", "Sparse attention",
         "tokens that each query may read: one number, or one per layer (64,64,32,...)", &m.sparse_top_k,
         model | sparse_only, largest_width},
        {"i_know_this_leaks", "Sparse attention",
         "each query reads exactly sparse_top_k keys, later ones too where it has fewer, as the original "
         "experiment's did: only to measure what that leak does to a loss, which is no model's",
         &m.leaks, model | sparse_only},
        {"index_share", "Sparse attention",
         "a letter a layer: F has an index of its own, S reads the keys of the last F (FSSS...); empty: all "
         "F",
         &m.index_share, model | sparse_only | may_be_empty},
        {"index_share_loss", "Sparse attention",
         "what trains a shared indexer: own (its own layer) or served (the mean over the layers it serves)",
         &m.index_share_loss, model | sparse_only},
        {"indexer_loss", "Sparse attention",
         "what the alignment loss of the sparse stage runs over: selected (the keys that attention reads) or "
         "full_row (all earlier keys, towards dense attention: the cost of the warm-up's loss in every step)",
         &m.indexer_loss, model | sparse_only},
        {"indexer_warmup", "Sparse attention",
         "what trains the indexer in its warm-up: kl (the alignment loss) or entropy (that of its own scores "
         "is maximised, as in the original experiment)",
         &c.indexer_warmup, training | sparse_only},
        {"indexer_lr", "Sparse attention",
         "learning rate of the indexer, constant in the warm-up and the peak afterwards; 0: warmup_lr, then "
         "the "
         "main model's",
         &c.indexer_lr, training | sparse_only},
        {"indexer_loss_weight", "Sparse attention",
         "weight of the alignment loss in the sparse stage; 0: the indexer learns in the warm-up alone. How "
         "fast "
         "it learns is a matter of indexer_lr: the optimisers ignore a gradient's size",
         &c.indexer_loss_weight, training | sparse_only},
        {"warmup_steps", "Sparse attention", "steps that train the indexer alone", &c.warmup_steps,
         training | sparse_only, most_steps},
        {"warmup_lr", "Sparse attention", "learning rate of those steps, unless indexer_lr says it",
         &c.warmup_lr, training | sparse_only},
        {"sparse_steps", "Sparse attention", "training steps of the sparse model", &c.sparse_steps,
         training | sparse_only, most_steps},
        {"sparse_learning_rate", "Sparse attention",
         "peak learning rate of those steps; 0: learning_rate, a tenth of it with --sparse_init classic",
         &c.sparse_learning_rate, training | sparse_only},
        {"sparse_init", "Sparse attention", "scratch, or classic: start from the trained classic model",
         &c.sparse_init, training | sparse_only},

        {"batch_size", "Training", "windows per step", &c.batch_size, training, largest_batch},
        {"classic_steps", "Training", "training steps of the classic model", &c.classic_steps,
         training | classic_only, most_steps},
        {"optimizer", "Training", "muon (hidden matrices; AdamW for the rest) or adamw (for everything)",
         &c.optimizer, training},
        {"muon_gates", "Training", "whether Muon trains the routers' gates; false: AdamW", &c.muon_gates,
         training},
        {"muon_matrices", "Training",
         "what Muon takes for one matrix: whole parameters, the query, key and value part of each (qkv), or "
         "each "
         "of their heads",
         &c.muon_matrices, training},
        {"learning_rate", "Training", "peak learning rate (Muon; AdamW runs at a tenth)", &c.learning_rate,
         training},
        {"weight_decay", "Training", "of AdamW", &c.weight_decay, training},
        {"grad_clip", "Training", "largest global gradient norm; inf: no clipping", &c.grad_clip,
         training | may_be_infinite},
        {"load_balancing_weight", "Training", "weight of the experts' load-balancing loss",
         &c.load_balancing_weight, training},
        {"bias_update_speed", "Training", "change of a router's bias per step with --router sigmoid_bias",
         &c.bias_update_speed, training},
        {"eval_every", "Training", "steps between evaluations", &c.eval_every, training, most_steps},
        {"eval_batches", "Training", "validation batches per evaluation; 0: all", &c.eval_batches, training,
         most_steps},
        {"init_from", "Training",
         "a Hugging Face folder (deepseek_v32, glm_moe_dsa or deepseek_v3) whose weights both models start "
         "from; as "
         "a preset "
         "does, it sets the keys of the model, and the tokenizer",
         &c.init_from, training},
        {"seed", "Training", "of weights, batches and dropout", &c.seed, training, largest_seed},

        {"task", "Data",
         "text, or recall: made-up sequences whose right answers are known, to see what a selection loses",
         &c.task, data},
        {"recall_pairs", "Data", "pairs that --task recall asks for; as many others are distractors",
         &c.recall_pairs, data, most_parts},
        {"data", "Data",
         "your own text: a file, or a folder of .txt, .md and .jsonl files (a JSON object on each line), "
         "each "
         "of them also as .gz or .zst",
         &c.data, data},
        {"text_key", "Data", "what the text is called in the objects of JSON lines", &c.text_key, data},
        {"tokenizer", "Data", "a Hugging Face tokenizer.json (byte-level BPE); empty: train one",
         &c.tokenizer, data},
        {"protocol", "Data",
         "heldout: validation text is not trained on; overlap: the original's leaking windows", &c.protocol,
         data},
        {"held_out", "Data",
         "blocks (spread over all documents, whatever their files are called) or tail (the text that comes "
         "last, "
         "as in older runs)",
         &c.held_out, data},
        {"max_tokens", "Data", "use only the first so many tokens; 0: all", &c.max_tokens, data,
         largest_count},
        {"num_documents", "Data", "use only the first so many documents; 0: all", &c.num_documents, data,
         largest_count},
        {"val_fraction", "Data", "share of the text kept for validation", &c.val_fraction, data},
        {"cache_dir", "Data", "where encoded text is kept between runs; empty: nowhere", &c.cache_dir,
         place | may_be_empty},

        {"results_dir", "Running", "where results are written", &c.results_dir, place},
        {"stages", "Running", "which of classic,sparse,compare to run", &c.stages, place},
        {"device", "Running", "auto, cpu or cuda", &c.device, running},
        {"precision", "Running",
         "of matrix products, and on a GPU of attention: fp32, bf16, tf32 (on a GPU) or auto, which is bf16 "
         "where the device has instructions for it",
         &c.precision, training},
        {"threads", "Running", "0: the cores that other programs leave free", &c.threads, running,
         most_threads},
        {"memory_limit_mb", "Running", "refuse to use more tensor memory than this; 0: no limit",
         &c.memory_limit_mb, running, largest_count},
        {"checkpoint_every", "Running", "steps between checkpoints for --resume", &c.checkpoint_every,
         running, most_steps},
        {"tensorboard", "Running", "also write TensorBoard event files beside metrics.jsonl and metrics.csv",
         &c.tensorboard, place},
    };
}

std::vector<ConfigKey> all_config_keys(ExperimentConfig& c) {
    using enum KeyNature;
    std::vector<ConfigKey> keys = {
        {"preset", "", "the values that the other keys began with", &c.preset, label},
        {"attention", "", "classic or sparse", &c.model.attention, model},
    };
    for (ConfigKey& key : config_keys(c)) keys.push_back(std::move(key));
    return keys;
}

ConfigKey config_key(ExperimentConfig& config, const std::string& name) {
    std::vector<std::string> known;
    for (const ConfigKey& key : config_keys(config)) {
        if (key.name == name) return key;
        known.emplace_back(key.name);
    }
    const std::string nearest = nearest_name(name, known);
    fail_usage(fmt::format("unknown key '{}'{} (--help lists all)", shortened(name),
                           nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
}

namespace {

// Whether `text` is one number as std::from_chars reads it. `fits` tells a number that the type cannot hold.
template <class Number>
bool is_number(const std::string& text, Number& value, bool& fits) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    fits = parsed.ec != std::errc::result_out_of_range;
    return parsed.ec != std::errc::invalid_argument && parsed.ptr == end;
}

// 3000, also written as 3e3.
bool is_whole_number(const std::string& text, int64_t& value) {
    bool fits = false;
    if (is_number(text, value, fits)) return fits;
    double number = 0;
    if (!is_number(text, number, fits) || !fits) return false;
    const std::optional<int64_t> whole = whole_number_in(number);
    value = whole.value_or(0);
    return whole.has_value();
}

// Each throws what it wants in place of the text.
void parse(const std::string& text, int64_t* value) {
    bool fits = true;
    int64_t ignored = 0;
    if (is_number(text, ignored, fits) && !fits) throw std::invalid_argument("a whole number below 2^63");
    if (!is_whole_number(text, *value)) throw std::invalid_argument("a whole number");
}
void parse(const std::string& text, double* value) {
    bool fits = true;
    if (!is_number(text, *value, fits)) throw std::invalid_argument("a number");
    if (!fits) throw std::invalid_argument("a number that float64 can hold");
}
void parse(const std::string& text, std::string* value) {
    *value = text;
}
void parse(const std::string& text, bool* value) {
    if (text != "true" && text != "false") throw std::invalid_argument("true or false");
    *value = text == "true";
}
void parse(const std::string& text, const NamedChoice& value) {
    if (!value.set(text)) throw std::invalid_argument(value.wanted(text));
}
void parse(const std::string& text, PerLayer* value) {
    std::vector<int64_t> values;
    for (const std::string& item : split_names(text)) {
        values.emplace_back();
        if (!is_whole_number(item, values.back()))
            throw std::invalid_argument("a whole number, or one per layer such as 64,64,32");
    }
    *value = PerLayer(values);
}

struct TextOf {
    std::string operator()(const NamedChoice& value) const { return value.text(); }
    std::string operator()(const PerLayer* value) const { return to_string(*value); }
    template <class T>
    std::string operator()(const T* value) const {
        return fmt::format("{}", *value);
    }
};

struct JsonOf {
    nlohmann::ordered_json operator()(const NamedChoice& value) const { return value.text(); }
    nlohmann::ordered_json operator()(const double* value) const { return json_number(*value); }
    template <class T>
    nlohmann::ordered_json operator()(const T* value) const {
        return *value;
    }
};

}  // namespace

std::string text_of(const ConfigValue& value) {
    return std::visit(TextOf(), value);
}

nlohmann::ordered_json json_of(const ConfigValue& value) {
    return std::visit(JsonOf(), value);
}

void set_from_text(const ConfigValue& value, const std::string& name, const std::string& text) {
    try {
        std::visit([&](const auto& to) { parse(text, to); }, value);
    } catch (const std::invalid_argument& wanted) {
        fail_usage_of(name, text, wanted.what());
    }
}

PerLayer per_layer_from_text(const std::string& key, const std::string& text) {
    PerLayer numbers = 0;
    set_from_text(&numbers, key, text);
    return numbers;
}

void set_config_value(ExperimentConfig& config, const std::string& name, const std::string& text) {
    set_from_text(config_key(config, name).value, name, text);
}

std::string config_value(const ExperimentConfig& config, const std::string& name) {
    ExperimentConfig copy = config;
    return text_of(config_key(copy, name).value);
}

void apply_preset(ExperimentConfig& c, const std::string& name) {
    ModelConfig& m = c.model;
    if (name == "small") {
        m.d_model = 128, m.n_heads = 4, m.n_layers = 4, m.d_ff = 256;
        m.max_seq_len = 64, c.batch_size = 32, m.num_experts = 2, m.expert_top_k = 1;
        m.indexer_heads = 2, m.indexer_dim = 32, m.sparse_top_k = 32;
        c.warmup_steps = 100, c.sparse_steps = 1500, c.classic_steps = 1500;
        c.learning_rate = 3e-3;
        m.router_weights =
            RouterWeights::straight_through;  // one expert a token: else nothing trains the router
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
    } else if (name == "long") {  // small's model where a query reads a thirty-second of its keys
        m.d_model = 128, m.n_heads = 4, m.n_layers = 4, m.d_ff = 256;
        m.max_seq_len = 1024, c.batch_size = 4, m.num_experts = 2, m.expert_top_k = 1;
        m.indexer_heads = 2, m.indexer_dim = 32, m.sparse_top_k = 32;
        c.warmup_steps = 100, c.sparse_steps = 1500, c.classic_steps = 1500;
        c.learning_rate = 3e-3;
        m.router_weights = RouterWeights::straight_through;  // as small
    } else {
        fail_usage(fmt::format("preset: '{}', want small, medium, large or long", name));
    }
    c.held_out = HeldOut::blocks;
    c.muon_matrices = PackedMatrices::qkv;
    c.preset = name;
}

namespace {

void require_at_least(const char* key, int64_t value, int64_t least) {
    if (value < least) fail_usage(fmt::format("{}: {}, want at least {}", key, value, least));
}

void require_not_negative(const char* key, double value) {
    if (!(value >= 0)) fail_usage(fmt::format("{}: {}, want at least 0", key, value));
}

// Throws what is wanted in place of the value.
class ValueCheck {
  public:
    explicit ValueCheck(const ConfigKey& key) : key_(key) {}

    void operator()(const int64_t* value) const { check_most(*value); }
    void operator()(const PerLayer* values) const {
        for (const int64_t value : values->values()) check_most(value);
    }
    void operator()(const double* value) const {
        const bool unlimited = key_.is(KeyNature::may_be_infinite) && *value > 0;
        if (!std::isfinite(*value) && !(unlimited && std::isinf(*value)))
            throw std::invalid_argument("a finite number");
    }
    void operator()(const std::string* value) const {
        if (value->find('\0') != std::string::npos) throw std::invalid_argument("a text without NUL bytes");
        if (count_invalid_utf8(*value) > 0)
            throw std::invalid_argument(
                "UTF-8, which JSON files are written in; rename the file, or link to it");
    }
    void operator()(const bool*) const {}
    void operator()(const NamedChoice&) const {}

  private:
    void check_most(int64_t value) const {
        if (value > key_.most) throw std::invalid_argument(fmt::format("at most {}", key_.most));
    }
    const ConfigKey& key_;
};

}  // namespace

void check_value(const ConfigKey& key) {
    try {
        std::visit(ValueCheck(key), key.value);
    } catch (const std::invalid_argument& wanted) {
        const bool text = std::holds_alternative<std::string*>(key.value);
        fail_usage(fmt::format("{}: {}, want {}", key.name,
                               text ? shown(json_of(key.value)) : text_of(key.value), wanted.what()));
    }
}

namespace {

// How an indexer is trained, where none is.
void check_indexer_training(const ExperimentConfig& c) {
    const bool entropy = c.indexer_warmup == IndexerWarmup::entropy,
               full_row = c.model.indexer_loss == IndexerLoss::full_row;
    const auto refuse = [&](const std::string& with, bool warmup, bool sparse_stage) {
        if (entropy && warmup)
            fail_usage(
                fmt::format("indexer_warmup: entropy with {}, so that no warm-up trains an indexer; "
                            "want kl, the default",
                            with));
        if (full_row && sparse_stage)
            fail_usage(
                fmt::format("indexer_loss: full_row with {}, so that the sparse stage trains no "
                            "indexer; want selected, the default",
                            with));
    };
    if (!selector_kind(c.model.selector).has_indexer) refuse("selector " + c.model.selector, true, true);
    if (c.indexer_frozen) refuse("indexer_frozen true", true, true);
    if (c.warmup_steps == 0) refuse("warmup_steps 0", true, false);
    if (c.indexer_loss_weight == 0) refuse("indexer_loss_weight 0", false, true);
}

}  // namespace

SelectorLoss selector_loss(const ExperimentConfig& c, AttentionStage stage) {
    if (stage == AttentionStage::dense)
        return c.indexer_warmup == IndexerWarmup::entropy ? SelectorLoss::entropy : SelectorLoss::alignment;
    return c.model.indexer_loss == IndexerLoss::full_row ? SelectorLoss::full_alignment
                                                         : SelectorLoss::alignment;
}

void validate(const ExperimentConfig& c) {
    ExperimentConfig copy = c;
    for (const ConfigKey& key : config_keys(copy)) check_value(key);
    if (c.results_dir.empty())
        fail_usage("results_dir: empty, want a folder; is a variable in the command or the file not set?");
    validate(c.model);
    require_at_least("recall_pairs", c.recall_pairs, 1);
    if (c.task == Task::recall) check_recall_task(c.model.max_seq_len, c.recall_pairs);
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
    require_not_negative("indexer_lr", c.indexer_lr);
    require_not_negative("weight_decay", c.weight_decay);
    require_not_negative("bias_update_speed", c.bias_update_speed);
    require_not_negative("load_balancing_weight", c.load_balancing_weight);
    require_not_negative("indexer_loss_weight", c.indexer_loss_weight);
    check_indexer_training(c);
    if (!(c.grad_clip > 0)) fail_usage(fmt::format("grad_clip: {}, want more than 0", c.grad_clip));
    if (!(c.val_fraction > 0 && c.val_fraction < 1))
        fail_usage(fmt::format("val_fraction: {}, want between 0 and 1", c.val_fraction));
}

void check_config(const ExperimentConfig& config, const std::string& source) {
    try {
        validate(config);
    } catch (const Error& e) {
        throw Error(ErrorKind::bad_file, source + ": " + e.what());
    }
}

void to_json(nlohmann::ordered_json& json, const PerLayer& numbers) {
    if (numbers.values().size() == 1)
        json = numbers.values().front();
    else
        json = numbers.values();
}

nlohmann::ordered_json config_to_json(const ExperimentConfig& config) {
    ExperimentConfig copy = config;
    nlohmann::ordered_json json;
    for (const ConfigKey& key : all_config_keys(copy))
        if (key.saved()) json[key.name] = json_of(key.value);
    return json;
}

namespace {

// Each throws what it wants in place of the JSON.
void assign(const nlohmann::ordered_json& from, int64_t* to) {
    const std::optional<int64_t> number = whole_number_in(from);
    if (!number) throw std::invalid_argument("a whole number");
    *to = *number;
}

void assign(const nlohmann::ordered_json& from, double* to) {
    const std::optional<double> number = number_in(from);
    if (!number || from.is_null()) throw std::invalid_argument("a number");
    *to = *number;
}

void assign(const nlohmann::ordered_json& from, std::string* to) {
    if (!from.is_string()) throw std::invalid_argument("a text");
    *to = from.get<std::string>();
}

void assign(const nlohmann::ordered_json& from, bool* to) {
    if (!from.is_boolean()) throw std::invalid_argument("true or false");
    *to = from.get<bool>();
}

// A name; for a list of names also a list of texts.
void assign(const nlohmann::ordered_json& from, const NamedChoice& to) {
    std::string text = from.is_string() ? from.get<std::string>() : "";
    if (from.is_array())
        for (const auto& item : from)
            text += (text.empty() ? "" : ",") + (item.is_string() ? item.get<std::string>() : "?");
    if (!to.set(text)) throw std::invalid_argument(to.wanted(text));
}

// A number, a list of numbers, or what a command line would hold.
void assign(const nlohmann::ordered_json& from, PerLayer* to) {
    if (from.is_string()) return parse(from.get<std::string>(), to);
    std::vector<int64_t> values;
    for (const auto& item : from.is_array() ? from : nlohmann::ordered_json::array({from})) {
        const std::optional<int64_t> number = whole_number_in(item);
        if (!number) throw std::invalid_argument("a whole number or a list of them");
        values.push_back(*number);
    }
    if (values.empty()) throw std::invalid_argument("a whole number or a list of them");
    *to = PerLayer(values);
}

}  // namespace

void set_from_json(const ConfigValue& value, const std::string& place, const std::string& name,
                   const nlohmann::ordered_json& json) {
    try {
        std::visit([&](const auto& to) { assign(json, to); }, value);
    } catch (const std::invalid_argument& wanted) {
        fail_bad_file(fmt::format("{}: {} is {}, want {}", place, name, shown(json), wanted.what()));
    }
}

ExperimentConfig config_from_json(const nlohmann::ordered_json& json, const std::string& source,
                                  bool ignore_unknown) {
    if (!json.is_object()) fail_bad_file(fmt::format("{}: want one JSON object of config keys", source));
    ExperimentConfig config;
    const std::vector<ConfigKey> keys = all_config_keys(config);
    for (const auto& item : json.items()) {
        const std::string& name = item.key();
        const nlohmann::ordered_json& value = item.value();
        const auto key =
            std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& k) { return k.name == name; });
        if (key == keys.end()) {
            if (ignore_unknown) continue;
            fail_bad_file(fmt::format("{}: unknown key '{}'", source, name));
        }
        set_from_json(key->value, source, name, value);
    }
    return config;
}

}  // namespace sieve
