#include "tests/support/tiny_training.h"

#include "tests/models/variants.h"
#include "tests/support/source_dir.h"

namespace sieve::testing {

ExperimentConfig tiny_config(AttentionKind attention) {
    ExperimentConfig c;
    c.model.attention = attention;
    c.model.vocab_size = 300;
    c.model.d_model = 32, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 48;
    c.model.max_seq_len = 24;
    c.model.num_experts = 2, c.model.expert_top_k = 1;
    c.model.indexer_heads = 2, c.model.indexer_dim = 8, c.model.sparse_top_k = 8;
    c.batch_size = 8;
    c.classic_steps = 30, c.warmup_steps = 5, c.sparse_steps = 30;
    c.eval_every = 10, c.eval_batches = 2, c.checkpoint_every = 7;
    return c;
}

std::vector<NamedConfig> tiny_variants(AttentionKind attention) {
    std::vector<NamedConfig> all(5, {"plain", tiny_config(attention)});
    {
        ExperimentConfig& c = all[1].config;
        all[1].name = "grouped queries, swiglu, sigmoid router";
        c.model.n_heads = 4, c.model.attention_type = AttentionType::gqa, c.model.n_kv_heads = 2;
        c.model.ffn = FeedForwardKind::swiglu, c.model.shared_experts = 1;
        c.model.num_experts = 4, c.model.expert_top_k = 2, c.model.router = RouterKind::sigmoid_bias;
        c.bias_update_speed = 0.01;
    }
    {
        ExperimentConfig& c = all[2].config;
        all[2].name = "latent attention, DeepSeek's indexer";
        c.model.attention_type = AttentionType::mla, c.model.n_heads = 4, c.model.q_lora_rank = 24,
        c.model.kv_lora_rank = 16;
        c.model.qk_nope_head_dim = 8, c.model.qk_rope_head_dim = 4, c.model.v_head_dim = 8;
        c.model.indexer = IndexerKind::deepseek, c.model.sparse_top_k = PerLayer({12, 6});
    }
    all[3].name = "adamw";
    all[3].config.optimizer = OptimizerKind::adamw;
    all[4].name = "GLM with everything";
    make_glm(all[4].config.model);
    return all;
}

const Dataset& tiny_data() {
    static const Dataset data = load_dataset({.data = source_dir() + "/data/excerpt",
                                              .vocab_size = 300,
                                              .max_tokens = 20000,
                                              .cache_dir = "",
                                              .seq_len = 24,
                                              .batch_size = 8});
    return data;
}

}  // namespace sieve::testing
