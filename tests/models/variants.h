// The model variants that the configuration offers, at a size at which everything can be differentiated.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/config.h"

namespace sieve::testing {

struct Variant {
    std::string name;
    std::function<void(ModelConfig&)> apply;
};

// What DeepSeek-V3.2 and GLM-5 have beside the plain model, all in one. Three layers: the first has a dense
// feed-forward, the second reads the first one's keys.
inline void make_glm(ModelConfig& c) {
    c.n_layers = 3, c.ffn_layers = "DMM", c.dense_d_ff = 7, c.index_share = "FSF";
    c.attention_type = AttentionType::mla, c.attention_bias = true, c.latent_norm_eps = 1e-3;
    c.n_heads = 3, c.q_lora_rank = 6, c.kv_lora_rank = 5;
    c.qk_nope_head_dim = 3, c.qk_rope_head_dim = 4, c.v_head_dim = 4;
    c.indexer = IndexerKind::deepseek, c.indexer_dim = 6, c.indexer_rope_dim = 4;
    c.indexer_rope_layout = RopeLayout::interleaved;
    c.rope_scaling = RopeScaling::yarn, c.rope_base = 10, c.rope_factor = 4;
    c.rope_original_max_seq_len = 16, c.rope_beta_fast = 2, c.rope_mscale_all_dim = 1;
    c.router = RouterKind::sigmoid_bias, c.routed_scaling_factor = 1.5, c.norm_topk_prob = false;
    c.num_experts = 6, c.n_group = 3, c.topk_group = 2, c.shared_experts = 1;
    c.ffn = FeedForwardKind::swiglu;
    c.tie_embeddings = false;
}

inline std::vector<Variant> model_variants() {
    const auto gqa = [](int64_t kv_heads) {
        return [kv_heads](ModelConfig& c) {
            c.attention_type = AttentionType::gqa;
            c.n_kv_heads = kv_heads;
        };
    };
    const auto mla = [](int64_t q_rank) {
        return [q_rank](ModelConfig& c) {
            c.attention_type = AttentionType::mla;
            c.n_heads = 3, c.q_lora_rank = q_rank, c.kv_lora_rank = 5;
            c.qk_nope_head_dim = 3, c.qk_rope_head_dim = 2, c.v_head_dim = 4;
        };
    };
    const auto sigmoid_bias = [](ModelConfig& c) {
        c.router = RouterKind::sigmoid_bias;
        c.routed_scaling_factor = 1.5;
    };
    const auto groups = [sigmoid_bias](ModelConfig& c) {
        sigmoid_bias(c);
        c.num_experts = 6, c.n_group = 3, c.topk_group = 2;
    };
    // Of four pairs the first keeps its frequency, the last has it divided by the factor.
    const auto yarn = [](ModelConfig& c) {
        c.rope_scaling = RopeScaling::yarn;
        c.rope_base = 10, c.rope_factor = 4, c.rope_original_max_seq_len = 16;
        c.rope_beta_fast = 2, c.rope_beta_slow = 0.5;
    };
    return {
        {"mha", [](ModelConfig&) {}},
        {"gqa, 1 key head", gqa(1)},
        {"gqa, 2 key heads", gqa(2)},
        {"mla", mla(0)},
        {"mla, query latent", mla(6)},
        {"mla, query latent, deepseek",
         [mla](ModelConfig& c) {
             mla(6)(c);
             c.indexer = IndexerKind::deepseek;
         }},
        {"mla, deepseek",
         [mla](ModelConfig& c) {
             mla(0)(c);
             c.indexer = IndexerKind::deepseek;
         }},
        {"top k per layer",
         [](ModelConfig& c) {
             c.sparse_top_k = PerLayer({2, 4});
         }},
        {"indexer without weights", [](ModelConfig& c) { c.indexer_weights = IndexerWeights::off; }},
        {"index shared", [](ModelConfig& c) { c.index_share = "FS"; }},
        {"index shared, loss of the layers served",
         [](ModelConfig& c) {
             c.index_share = "FS";
             c.index_share_loss = IndexShareLoss::served;
         }},
        {"swiglu", [](ModelConfig& c) { c.ffn = FeedForwardKind::swiglu; }},
        {"2 shared experts", [](ModelConfig& c) { c.shared_experts = 2; }},
        {"weights over all experts, top 1",
         [](ModelConfig& c) {
             c.router_weights = RouterWeights::all;
             c.expert_top_k = 1;
         }},
        {"scaled weights over all experts", [](ModelConfig& c) { c.router_weights = RouterWeights::scaled; }},
        {"sigmoid_bias", sigmoid_bias},
        {"sigmoid_bias, expert groups", groups},
        {"sigmoid_bias, weights as they are",
         [sigmoid_bias](ModelConfig& c) {
             sigmoid_bias(c);
             c.norm_topk_prob = false;
         }},
        {"own head", [](ModelConfig& c) { c.tie_embeddings = false; }},
        {"a dense layer, then experts",
         [](ModelConfig& c) {
             c.ffn_layers = "DM";
             c.dense_d_ff = 7;
         }},
        {"experts, then a dense layer, swiglu, sigmoid_bias",
         [sigmoid_bias](ModelConfig& c) {
             sigmoid_bias(c);
             c.ffn = FeedForwardKind::swiglu;
             c.ffn_layers = "MD";
         }},
        {"dense layers alone", [](ModelConfig& c) { c.ffn_layers = "DD"; }},
        {"yarn",
         [yarn](ModelConfig& c) {
             yarn(c);
             c.n_heads = 1;
         }},
        {"mla, yarn, deepseek, scaled scores",
         [mla, yarn](ModelConfig& c) {
             mla(6)(c);
             yarn(c);
             c.qk_rope_head_dim = 8, c.indexer_dim = 8, c.indexer_rope_dim = 8;
             c.rope_mscale = 2, c.rope_mscale_all_dim = 3;
             c.indexer = IndexerKind::deepseek;
         }},
        {"deepseek, interleaved",
         [](ModelConfig& c) {
             c.indexer = IndexerKind::deepseek;
             c.indexer_dim = 6, c.indexer_rope_dim = 4;
             c.indexer_rope_layout = RopeLayout::interleaved;
         }},
        {"deepseek, all dims rotated",
         [](ModelConfig& c) {
             c.indexer = IndexerKind::deepseek;
             c.indexer_rope_dim = 4;
         }},
        {"mla, epsilon of the latents",
         [mla](ModelConfig& c) {
             mla(6)(c);
             c.latent_norm_eps = 0.5;
         }},
        {"mla, biases",
         [mla](ModelConfig& c) {
             mla(0)(c);
             c.attention_bias = true;
         }},
        {"GLM with everything", make_glm},
        {"gqa, swiglu, shared, sigmoid_bias, deepseek", [gqa](ModelConfig& c) {
             gqa(2)(c);
             c.ffn = FeedForwardKind::swiglu;
             c.shared_experts = 1;
             c.router = RouterKind::sigmoid_bias;
             c.indexer = IndexerKind::deepseek;
         }}};
}

inline ModelConfig tiny_variant(const Variant& variant, const std::string& attention) {
    ModelConfig c;
    c.attention = from_name<AttentionKind>("attention", attention);
    c.vocab_size = 13;
    c.d_model = 8, c.n_heads = 4, c.n_layers = 2, c.d_ff = 5;
    c.max_seq_len = 8;
    c.num_experts = 3, c.expert_top_k = 2;
    c.indexer_heads = 2, c.indexer_dim = 4, c.sparse_top_k = 3;
    c.init_std = 0.4;
    variant.apply(c);
    return c;
}

}  // namespace sieve::testing
