#include "models/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "framework/core/error.h"
#include "models/parameter_count.h"

namespace sieve {

std::string to_string(const PerLayer& numbers) {
    std::string text;
    for (const int64_t value : numbers.values()) text += (text.empty() ? "" : ",") + std::to_string(value);
    return text;
}

namespace {

void require_at_least_one(const char* key, int64_t value) {
    if (value < 1) fail_usage(fmt::format("{}: {}, want at least 1", key, value));
}

void check_top_k(const ModelConfig& c) {
    const std::vector<int64_t>& values = c.sparse_top_k.values();
    for (const int64_t k : values) require_at_least_one("sparse_top_k", k);
    if (values.size() != 1 && static_cast<int64_t>(values.size()) != c.n_layers)
        fail_usage(fmt::format(
            "sparse_top_k: {} numbers ({}) for n_layers {}; give one for all layers or one for each",
            values.size(), to_string(c.sparse_top_k), c.n_layers));
}

// A layer that shares an index has the k of the layer whose index it is.
void check_index_share(const ModelConfig& c) {
    const std::string& letters = c.index_share;
    if (letters.empty()) return;
    if (static_cast<int64_t>(letters.size()) != c.n_layers || letters[0] != 'F' ||
        letters.find_first_not_of("FS") != std::string::npos)
        fail_usage(fmt::format(
            "index_share: '{}', want a letter for each of n_layers {}: F (its own) or S (that of the "
            "last F before it), the first an F, as in FSSS",
            letters, c.n_layers));
    for (int64_t layer = 1, last = 0; layer < c.n_layers; ++layer) {
        if (!c.shares_index(layer)) last = layer;
        if (c.sparse_top_k.of(layer) != c.sparse_top_k.of(last))
            fail_usage(fmt::format(
                "sparse_top_k: {} in layer {}, which shares the index of layer {} (index_share {}), "
                "want its {}",
                c.sparse_top_k.of(layer), layer, last, letters, c.sparse_top_k.of(last)));
    }
}

void check_ffn_layers(const ModelConfig& c) {
    const std::string& letters = c.ffn_layers;
    if (!letters.empty() && (static_cast<int64_t>(letters.size()) != c.n_layers ||
                             letters.find_first_not_of("DM") != std::string::npos))
        fail_usage(fmt::format(
            "ffn_layers: '{}', want a letter for each of n_layers {}: D (one dense feed-forward) or M (a "
            "mixture of experts), as in DMMM",
            letters, c.n_layers));
    if (c.dense_d_ff < 0) fail_usage(fmt::format("dense_d_ff: {}, want at least 0 (d_ff)", c.dense_d_ff));
}

void check_expert_groups(const ModelConfig& c) {
    require_at_least_one("n_group", c.n_group);
    require_at_least_one("topk_group", c.topk_group);
    if (c.topk_group > c.n_group)
        fail_usage(fmt::format("topk_group: {} is more than n_group {}; lower it or add groups", c.topk_group,
                               c.n_group));
    if (c.n_group == 1) return;
    if (c.router != RouterKind::sigmoid_bias)
        fail_usage(
            fmt::format("n_group: {} with router {}, which has no groups; want 1, or router "
                        "sigmoid_bias",
                        c.n_group, name_of(c.router)));
    const int64_t members = c.num_experts / c.n_group;
    if (c.num_experts % c.n_group != 0 || members < 2)
        fail_usage(
            fmt::format("n_group: {} for num_experts {}, want groups of one size and at least 2 experts: "
                        "a group's score is the sum of its best two",
                        c.n_group, c.num_experts));
    if (c.expert_top_k > c.topk_group * members)
        fail_usage(
            fmt::format("expert_top_k: {} is more than the {} experts of topk_group {} (groups of {}); "
                        "lower it or raise topk_group",
                        c.expert_top_k, c.topk_group * members, c.topk_group, members));
}

void check_router_weights(const ModelConfig& c) {
    if (!(c.routed_scaling_factor > 0))
        fail_usage(fmt::format("routed_scaling_factor: {}, want more than 0", c.routed_scaling_factor));
    if (!c.norm_topk_prob && c.router != RouterKind::sigmoid_bias)
        fail_usage(
            fmt::format("norm_topk_prob: false with router {}, whose weights router_weights says; want "
                        "true, or router sigmoid_bias",
                        name_of(c.router)));
}

void check_rope(const ModelConfig& c) {
    if (!(c.rope_base > 1)) fail_usage(fmt::format("rope_base: {}, want more than 1", c.rope_base));
    if (c.rope_original_max_seq_len < 0)
        fail_usage(fmt::format("rope_original_max_seq_len: {}, want at least 0 (none)",
                               c.rope_original_max_seq_len));
    if (c.rope_scaling == RopeScaling::none) return;
    if (!(c.rope_factor >= 1))
        fail_usage(
            fmt::format("rope_factor: {}, want at least 1 with rope_scaling yarn: how much longer than "
                        "rope_original_max_seq_len texts are",
                        c.rope_factor));
    if (c.rope_original_max_seq_len < 1)
        fail_usage(
            fmt::format("rope_original_max_seq_len: {}, want at least 1 with rope_scaling yarn: the "
                        "length of the windows of the first training",
                        c.rope_original_max_seq_len));
    if (!(c.rope_beta_slow > 0))
        fail_usage(fmt::format("rope_beta_slow: {}, want more than 0", c.rope_beta_slow));
    if (!(c.rope_beta_fast >= c.rope_beta_slow))
        fail_usage(fmt::format("rope_beta_fast: {}, want at least rope_beta_slow {}", c.rope_beta_fast,
                               c.rope_beta_slow));
    if (!(c.rope_mscale >= 0))
        fail_usage(fmt::format("rope_mscale: {}, want at least 0 (none)", c.rope_mscale));
    if (!(c.rope_mscale_all_dim >= 0))
        fail_usage(fmt::format("rope_mscale_all_dim: {}, want at least 0 (none)", c.rope_mscale_all_dim));
}

void check_indexer_rope(const ModelConfig& c) {
    if (c.indexer_rope_dim < 0)
        fail_usage(
            fmt::format("indexer_rope_dim: {}, want at least 0 (half of indexer_dim)", c.indexer_rope_dim));
    if (c.indexer != IndexerKind::deepseek) return;
    if (c.indexer_rope_dim == 0 && c.indexer_dim % 4 != 0)
        fail_usage(fmt::format(
            "indexer_dim: {}, want a multiple of 4: the deepseek indexer rotates pairs in half of "
            "its dims",
            c.indexer_dim));
    if (c.indexer_rope_dim % 2 != 0 || c.indexer_rope_dim > c.indexer_dim)
        fail_usage(
            fmt::format("indexer_rope_dim: {}, want an even number up to indexer_dim {}, or 0 (half of "
                        "it); RoPE rotates pairs",
                        c.indexer_rope_dim, c.indexer_dim));
}

void require_rate(const char* key, double value) {
    if (!(value >= 0 && value < 1)) fail_usage(fmt::format("{}: {}, want 0 <= {} < 1", key, value, key));
}

std::string divisors_of(int64_t n) {
    if (n > 1 << 16) return "1, or another divisor of it";  // to find all would take long
    std::vector<std::string> divisors;
    for (int64_t i = 1; i <= n; ++i)
        if (n % i == 0) divisors.push_back(std::to_string(i));
    return one_of(divisors);
}

void check_kv_heads(const ModelConfig& c) {
    if (c.n_kv_heads < 1 || c.n_heads % c.n_kv_heads != 0)
        fail_usage(fmt::format("n_kv_heads: {} does not divide n_heads {}; choose {}", c.n_kv_heads,
                               c.n_heads, divisors_of(c.n_heads)));
}

// The multiple of 2 n_heads nearest to d_model, the larger one of two.
int64_t good_width(const ModelConfig& c) {
    const int64_t step = 2 * c.n_heads, below = c.d_model / step * step;
    return below > 0 && c.d_model - below < step / 2 ? below : below + step;
}

void check_heads(const ModelConfig& c) {
    if (c.d_model % c.n_heads != 0)
        fail_usage(
            fmt::format("d_model: {} is not divisible by n_heads {}; choose d_model = {} or another n_heads",
                        c.d_model, c.n_heads, good_width(c)));
    if (c.d_model / c.n_heads % 2 != 0)
        fail_usage(fmt::format(
            "d_model / n_heads: {} / {} = {} is odd; RoPE rotates pairs, so the head size must be "
            "even; choose d_model = {} or another n_heads",
            c.d_model, c.n_heads, c.d_model / c.n_heads, good_width(c)));
}

void check_latent(const ModelConfig& c) {
    if (c.q_lora_rank < 0)
        fail_usage(fmt::format("q_lora_rank: {}, want at least 0 (no query latent)", c.q_lora_rank));
    require_at_least_one("kv_lora_rank", c.kv_lora_rank);
    require_at_least_one("qk_nope_head_dim", c.qk_nope_head_dim);
    require_at_least_one("v_head_dim", c.v_head_dim);
    if (c.qk_rope_head_dim < 2 || c.qk_rope_head_dim % 2 != 0)
        fail_usage(fmt::format("qk_rope_head_dim: {}, want an even number of at least 2; RoPE rotates pairs",
                               c.qk_rope_head_dim));
}

void check_indexer_precision(const ModelConfig& c) {
    const IndexerPrecision precision = c.indexer_precision;
    const auto refuse_with = [&](const std::string& what) {
        if (precision != IndexerPrecision::fp32)
            fail_usage(fmt::format("indexer_precision: {} with {}, whose scores are float32's; want fp32",
                                   name_of(precision), what));
    };
    if (c.selector == "hisa") refuse_with("selector hisa");
    if (c.selector == "indexer" && c.indexer_pool > 1)
        refuse_with(fmt::format("indexer_pool {}", c.indexer_pool));
    if (precision != IndexerPrecision::fp8 && precision != IndexerPrecision::int8) return;
    if (c.indexer_dim > 1024)
        fail_usage(fmt::format("indexer_dim: {}, want at most 1024 with indexer_precision {}", c.indexer_dim,
                               name_of(precision)));
    if (precision == IndexerPrecision::fp8 && !std::has_single_bit(static_cast<uint64_t>(c.indexer_dim)))
        fail_usage(
            fmt::format("indexer_dim: {}, want a power of two with indexer_precision fp8, which rotates "
                        "rows by a Hadamard matrix; choose {}, or bf16 or int8",
                        c.indexer_dim, std::bit_ceil(static_cast<uint64_t>(c.indexer_dim))));
}

// The indexers count in a classic model too: one configuration makes both.
void check_size(ModelConfig c) {
    c.attention = AttentionKind::sparse;
    const int64_t count = parameter_count(c).total();
    if (count <= most_parameters) return;
    throw Error(
        ErrorKind::usage,
        fmt::format("the model would have {:.1e} parameters (d_model {}, n_layers {}, {} experts of d_ff {}, "
                    "vocab_size {}), want at most {:.1e}; lower the width of the model, the number of "
                    "layers or experts, or the width of the experts",
                    static_cast<double>(count), c.d_model, c.n_layers, c.num_experts, c.d_ff, c.vocab_size,
                    static_cast<double>(most_parameters)),
        {SizeKind::width, SizeKind::layers, SizeKind::experts, SizeKind::expert_width});
}

}  // namespace

void validate(const ModelConfig& c) {
    selector_kind(c.selector);
    require_at_least_one("vocab_size", c.vocab_size);
    require_at_least_one("d_model", c.d_model);
    require_at_least_one("n_heads", c.n_heads);
    require_at_least_one("n_layers", c.n_layers);
    require_at_least_one("d_ff", c.d_ff);
    require_at_least_one("max_seq_len", c.max_seq_len);
    require_at_least_one("num_experts", c.num_experts);
    require_at_least_one("expert_top_k", c.expert_top_k);
    require_at_least_one("indexer_heads", c.indexer_heads);
    require_at_least_one("indexer_dim", c.indexer_dim);
    require_at_least_one("indexer_pool", c.indexer_pool);
    check_top_k(c);
    check_index_share(c);
    check_ffn_layers(c);
    if (c.sink_tokens < 0) fail_usage(fmt::format("sink_tokens: {}, want at least 0 (none)", c.sink_tokens));
    if (c.selector_seed < 0) fail_usage(fmt::format("selector_seed: {}, want at least 0", c.selector_seed));
    require_at_least_one("selector_block", c.selector_block);
    require_at_least_one("hisa_candidates", c.hisa_candidates);
    require_rate("dropout", c.dropout);
    if (c.attention_type == AttentionType::mla)
        check_latent(c);
    else
        check_heads(c);
    if (c.attention_bias && c.attention_type != AttentionType::mla)
        fail_usage(
            fmt::format("attention_bias: true with attention_type {}, whose projections have no biases; "
                        "want false, or attention_type mla",
                        name_of(c.attention_type)));
    if (c.attention_type == AttentionType::gqa) check_kv_heads(c);
    if (c.shared_experts < 0)
        fail_usage(fmt::format("shared_experts: {}, want at least 0 (none)", c.shared_experts));
    check_router_weights(c);
    if (c.expert_top_k > c.num_experts)
        fail_usage(fmt::format("expert_top_k: {} is more than num_experts {}; lower it or add experts",
                               c.expert_top_k, c.num_experts));
    check_expert_groups(c);
    check_indexer_rope(c);
    check_indexer_precision(c);
    if (!(c.latent_norm_eps >= 0))
        fail_usage(fmt::format("latent_norm_eps: {}, want at least 0 (norm_eps)", c.latent_norm_eps));
    if (!(c.norm_eps >= 0)) fail_usage(fmt::format("norm_eps: {}, want at least 0", c.norm_eps));
    if (!(c.router_noise >= 0)) fail_usage(fmt::format("router_noise: {}, want at least 0", c.router_noise));
    check_rope(c);
    if (!(c.init_std > 0)) fail_usage(fmt::format("init_std: {}, want more than 0", c.init_std));
    if (!std::isfinite(c.indexer_scale))
        fail_usage(fmt::format("indexer_scale: {}, want a number", c.indexer_scale));
    check_size(c);
}

std::string leak_text(const ModelConfig& c) {
    return fmt::format(
        "this model leaks: by i_know_this_leaks its first k - 1 queries (sparse_top_k {}) read later tokens, "
        "their own targets among them, so that its losses and accuracies are no measure of a model",
        to_string(c.sparse_top_k));
}

bool ModelConfig::selects_all() const {
    const std::vector<int64_t>& k = sparse_top_k.values();
    return std::all_of(k.begin(), k.end(), [&](int64_t keys) { return keys >= max_seq_len; });
}

std::vector<int64_t> packed_rows(const ModelConfig& c, PackedMatrices packed, const std::string& name) {
    if (packed == PackedMatrices::whole) return {};
    const bool by_head = packed == PackedMatrices::heads;
    const int64_t heads = c.n_heads, nope = c.qk_nope_head_dim, rope = c.qk_rope_head_dim;
    if (name.ends_with(".attention.qkv.weight")) {
        const int64_t dim = c.d_model / heads, kv_heads = c.kv_heads();
        if (!by_head) return {heads * dim, kv_heads * dim, kv_heads * dim};
        return std::vector<int64_t>(static_cast<size_t>(heads + 2 * kv_heads), dim);
    }
    if (name.ends_with(".attention.kv_a_proj_with_mqa.weight")) return {c.kv_lora_rank, rope};
    if (!by_head) return {};
    if (name.ends_with(".attention.q_proj.weight") || name.ends_with(".attention.q_b_proj.weight"))
        return std::vector<int64_t>(static_cast<size_t>(heads), nope + rope);
    std::vector<int64_t> rows;
    if (name.ends_with(".attention.kv_b_proj.weight"))
        for (int64_t h = 0; h < heads; ++h) rows.insert(rows.end(), {nope, c.v_head_dim});
    return rows;
}

namespace {

// YaRN's magnitude: entropy falls as texts grow (Peng et al., 2023, section 3.4; `weight` is DeepSeek's).
double yarn_magnitude(double factor, double weight) {
    return 0.1 * weight * std::log(factor) + 1;
}

}  // namespace

RopeAngles rope_angles(const ModelConfig& c) {
    RopeAngles angles{.base = c.rope_base, .yarn = {}};
    if (c.rope_scaling == RopeScaling::none) return angles;
    const bool moved = c.rope_mscale > 0 && c.rope_mscale_all_dim > 0;
    angles.yarn = YarnScaling{.factor = c.rope_factor,
                              .original_length = c.rope_original_max_seq_len,
                              .beta_fast = c.rope_beta_fast,
                              .beta_slow = c.rope_beta_slow,
                              .magnitude = moved ? yarn_magnitude(c.rope_factor, c.rope_mscale) /
                                                       yarn_magnitude(c.rope_factor, c.rope_mscale_all_dim)
                                                 : yarn_magnitude(c.rope_factor, 1)};
    return angles;
}

double attention_score_factor(const ModelConfig& c) {
    if (c.rope_scaling == RopeScaling::none || c.rope_mscale_all_dim == 0) return 1;
    const double magnitude = yarn_magnitude(c.rope_factor, c.rope_mscale_all_dim);
    return magnitude * magnitude;
}

SelectorConfig selector_config(const ModelConfig& c, int64_t layer) {
    const bool deepseek = c.indexer == IndexerKind::deepseek;
    double scale = c.indexer_scale;
    if (scale == 0)
        scale = deepseek ? 1 / std::sqrt(static_cast<double>(c.indexer_heads * c.indexer_dim)) : 1;
    return {.kind = c.selector,
            .layer = layer,
            .top_k = c.sparse_top_k.of(layer),
            .sinks = c.sink_tokens,
            .seed = c.selector_seed,
            .block = c.selector_block,
            .candidates = c.hisa_candidates,
            .indexer = {.kind = c.indexer,
                        .heads = c.indexer_heads,
                        .dim = c.indexer_dim,
                        .scale = scale,
                        .weights = c.indexer_weights == IndexerWeights::on,
                        .rope_dim = c.indexer_rotary_dims(),
                        .rope_layout = c.indexer_rope_layout,
                        .pool = c.indexer_pool,
                        .precision = c.indexer_precision}};
}

}  // namespace sieve
