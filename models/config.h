// What a model is made of. The key names are those of the command line, config.json and the presets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/nn/attention.h"
#include "framework/nn/mixture_of_experts.h"
#include "framework/ops/rope/rope.h"

namespace sieve {

// One number for all layers, or a list with one for each.
class PerLayer {
  public:
    PerLayer(int64_t every) : values_{every} {}  // not explicit: a plain number is the common case
    explicit PerLayer(std::vector<int64_t> by_layer) : values_(std::move(by_layer)) {}
    int64_t of(int64_t layer) const { return values_.size() == 1 ? values_[0] : values_.at(layer); }
    const std::vector<int64_t>& values() const { return values_; }
    bool operator==(const PerLayer&) const = default;

  private:
    std::vector<int64_t> values_;
};

std::string to_string(const PerLayer& numbers);  // "64" or "64,64,32"

enum class AttentionKind { classic, sparse };  // the two variants that are compared
template <>
inline constexpr auto enum_names<AttentionKind> = std::to_array<NamedValue<AttentionKind>>(
    {{AttentionKind::classic, "classic"}, {AttentionKind::sparse, "sparse"}});

enum class AttentionType { mha, gqa, mla };  // multi-head, grouped-query, latent
template <>
inline constexpr auto enum_names<AttentionType> = std::to_array<NamedValue<AttentionType>>(
    {{AttentionType::mha, "mha"}, {AttentionType::gqa, "gqa"}, {AttentionType::mla, "mla"}});

template <>
inline constexpr auto enum_names<IndexerKind> = std::to_array<NamedValue<IndexerKind>>(
    {{IndexerKind::plain, "plain"}, {IndexerKind::deepseek, "deepseek"}});

enum class IndexerWeights { on, off };  // off: all heads of the indexer count alike
template <>
inline constexpr auto enum_names<IndexerWeights> =
    std::to_array<NamedValue<IndexerWeights>>({{IndexerWeights::on, "on"}, {IndexerWeights::off, "off"}});

template <>
inline constexpr auto enum_names<IndexerPrecision> =
    std::to_array<NamedValue<IndexerPrecision>>({{IndexerPrecision::fp32, "fp32"},
                                                 {IndexerPrecision::bf16, "bf16"},
                                                 {IndexerPrecision::fp8, "fp8"},
                                                 {IndexerPrecision::int8, "int8"}});

template <>
inline constexpr auto enum_names<RopeLayout> = std::to_array<NamedValue<RopeLayout>>(
    {{RopeLayout::half_split, "half"}, {RopeLayout::interleaved, "interleaved"}});

// How the angles of RoPE are changed for texts longer than those of the first training.
enum class RopeScaling { none, yarn };
template <>
inline constexpr auto enum_names<RopeScaling> =
    std::to_array<NamedValue<RopeScaling>>({{RopeScaling::none, "none"}, {RopeScaling::yarn, "yarn"}});

// What trains an indexer that several layers share.
enum class IndexShareLoss {
    own,     // its own layer's attention
    served,  // the mean over the layers that read its keys
};
template <>
inline constexpr auto enum_names<IndexShareLoss> = std::to_array<NamedValue<IndexShareLoss>>(
    {{IndexShareLoss::own, "own"}, {IndexShareLoss::served, "served"}});

// What the alignment loss of the sparse stage runs over.
enum class IndexerLoss {
    selected,  // the keys that attention reads
    full_row,  // all earlier keys, towards dense attention
};
template <>
inline constexpr auto enum_names<IndexerLoss> = std::to_array<NamedValue<IndexerLoss>>(
    {{IndexerLoss::selected, "selected"}, {IndexerLoss::full_row, "full_row"}});

struct ModelConfig {
    AttentionKind attention = AttentionKind::classic;
    // Classic attention by the T x T tensors that the original experiment computed: what tools measure beside
    // the tiled one, with the same result. No key of the command line.
    bool materialised = false;
    int64_t vocab_size = 4096;
    int64_t d_model = 256, n_heads = 8, n_layers = 6, d_ff = 512;
    bool tie_embeddings = true;  // false: the head has a matrix of its own
    int64_t max_seq_len = 128;
    AttentionType attention_type = AttentionType::mha;
    int64_t n_kv_heads = 2;  // gqa only
    // mla only; q_lora_rank 0: queries come straight from the block's input.
    int64_t q_lora_rank = 0, kv_lora_rank = 64, qk_nope_head_dim = 32, qk_rope_head_dim = 16, v_head_dim = 32;
    double latent_norm_eps = 0;   // mla only, of the latents' norms; 0: norm_eps
    bool attention_bias = false;  // mla only: q_a_proj, kv_a_proj_with_mqa and w_o have a bias
    int64_t num_experts = 4, expert_top_k = 2, shared_experts = 0;
    FeedForwardKind ffn = FeedForwardKind::silu;
    // A letter a layer: M has experts, D one dense feed-forward of dense_d_ff hidden units (0: d_ff). Empty:
    // all M.
    std::string ffn_layers;
    int64_t dense_d_ff = 0;
    RouterKind router = RouterKind::softmax;
    RouterWeights router_weights = RouterWeights::selected;  // softmax only
    // sigmoid_bias only: ops/moe_sigmoid_routing.
    double routed_scaling_factor = 1;
    bool norm_topk_prob = true;
    int64_t n_group = 1, topk_group = 1;
    std::string selector = "indexer";  // what chooses the keys of a sparse model: nn/selector.h
    int64_t sink_tokens = 4;           // sink_recent only
    int64_t selector_seed = 0;         // random only
    int64_t selector_block = 16;       // block_mean and hisa only
    int64_t hisa_candidates = 4;       // hisa only
    IndexerKind indexer = IndexerKind::plain;
    int64_t indexer_heads = 4, indexer_dim = 64;
    // Of the indexer `deepseek`: how many of its dims are rotated, the first ones (0: half of them), and in
    // which pairs.
    int64_t indexer_rope_dim = 0;
    RopeLayout indexer_rope_layout = RopeLayout::half_split;
    IndexerWeights indexer_weights = IndexerWeights::on;
    int64_t indexer_pool = 1;  // tokens whose keys the selector `indexer` averages to one
    // A letter a layer: F has a selector of its own, S reads the keys of the last F before it. Empty: all F.
    std::string index_share;
    IndexShareLoss index_share_loss = IndexShareLoss::own;
    IndexerLoss indexer_loss = IndexerLoss::selected;  // of training alone: an evaluation's is `selected`
    PerLayer sparse_top_k = 64;
    // Every query reads exactly k keys, as the original experiment's did: the first k - 1 read later tokens as
    // well, their own targets among them. To measure that leak; the key is i_know_this_leaks.
    bool leaks = false;
    IndexerPrecision indexer_precision = IndexerPrecision::fp32;  // of the scores that select
    double indexer_scale = 0;  // 0: 1 for plain, indexer_heads^-0.5 * indexer_dim^-0.5 for deepseek
    double dropout = 0.1, router_noise = 0.1;
    double norm_eps = 1.1920929e-07, rope_base = 10000, init_std = 0.02;
    // YaRN (ops/rope); a magnitude of 0 is one that the model does not have.
    RopeScaling rope_scaling = RopeScaling::none;
    double rope_factor = 1;
    int64_t rope_original_max_seq_len = 0;
    double rope_beta_fast = 32, rope_beta_slow = 1;
    double rope_mscale = 0, rope_mscale_all_dim = 0;

    bool is_sparse() const { return attention == AttentionKind::sparse; }
    bool reads_future() const { return is_sparse() && leaks; }
    // Whether every query reads all its keys, in every layer.
    bool selects_all() const;
    // Whether the loss of the language model reaches the routers: a single normalised weight is a constant.
    bool trains_router() const {
        const bool normalised =
            router == RouterKind::softmax ? router_weights == RouterWeights::selected : norm_topk_prob;
        return has_experts() && num_experts > 1 && (expert_top_k > 1 || !normalised);
    }
    bool is_dense_layer(int64_t layer) const {
        return !ffn_layers.empty() && ffn_layers.at(static_cast<size_t>(layer)) == 'D';
    }
    int64_t dense_layers() const { return std::count(ffn_layers.begin(), ffn_layers.end(), 'D'); }
    int64_t expert_layers() const { return n_layers - dense_layers(); }
    bool has_experts() const { return expert_layers() > 0; }
    int64_t dense_width() const { return dense_d_ff ? dense_d_ff : d_ff; }
    int64_t rotary_dims() const {
        return attention_type == AttentionType::mla ? qk_rope_head_dim : d_model / n_heads;
    }
    int64_t indexer_rotary_dims() const { return indexer_rope_dim ? indexer_rope_dim : indexer_dim / 2; }
    // Whether there is a lightning indexer, which the alignment loss trains.
    bool has_indexer() const { return is_sparse() && selector_kind(selector).has_indexer; }
    // DeepSeek's indexer makes its queries from the query latent, where there is one.
    bool indexer_reads_latent() const {
        return indexer == IndexerKind::deepseek && attention_type == AttentionType::mla && q_lora_rank > 0;
    }
    bool shares_index(int64_t layer) const {
        return !index_share.empty() && index_share.at(static_cast<size_t>(layer)) == 'S';
    }
    int64_t own_indexes() const {  // layers with a selector of their own
        return n_layers - std::count(index_share.begin(), index_share.end(), 'S');
    }
    int64_t kv_heads() const { return attention_type == AttentionType::gqa ? n_kv_heads : n_heads; }
};

// What every program says of a model that reads_future(), and what refuses one: "this model leaks: ...".
std::string leak_text(const ModelConfig& config);

// The most parameters that a model may have, with its indexers: 4 TiB in float32. So no product of sizes
// overflows.
inline constexpr int64_t most_parameters = int64_t{1} << 40;

// Throws a usage error that names the key, its value and the remedy.
void validate(const ModelConfig& config);

// The matrices that a parameter of the model holds one below the other, by the rows of each; nothing for one
// that is a single matrix.
enum class PackedMatrices {
    whole,  // none is seen: each parameter is one matrix
    qkv,    // queries, keys and values; of latent attention the latent and the rotated key
    heads,  // each head of those
};
template <>
inline constexpr auto enum_names<PackedMatrices> = std::to_array<NamedValue<PackedMatrices>>(
    {{PackedMatrices::whole, "whole"}, {PackedMatrices::qkv, "qkv"}, {PackedMatrices::heads, "heads"}});
std::vector<int64_t> packed_rows(const ModelConfig& config, PackedMatrices packed, const std::string& name);

RopeAngles rope_angles(const ModelConfig& config);
// Of the attention scores, beside 1 / sqrt of the head size: YaRN's.
double attention_score_factor(const ModelConfig& config);
SelectorConfig selector_config(const ModelConfig& config, int64_t layer);

}  // namespace sieve
