#include "models/parameter_count.h"

namespace sieve {
namespace {

int64_t of_attention(const ModelConfig& c) {
    const int64_t d = c.d_model, H = c.n_heads;
    if (c.attention_type != AttentionType::mla) {
        const int64_t qkv = (H + 2 * c.kv_heads()) * (d / H);
        return qkv * d + d * d;
    }
    const int64_t N = c.qk_nope_head_dim, R = c.qk_rope_head_dim, V = c.v_head_dim, C = c.kv_lora_rank;
    const int64_t q_rank = c.q_lora_rank, q_width = H * (N + R);
    const int64_t queries = q_rank ? d * q_rank + q_rank + q_rank * q_width : d * q_width;  // with their norm
    const int64_t keys_and_values = d * (C + R) + C + C * H * (N + V);                      // likewise
    return queries + keys_and_values + H * V * d;
}

int64_t of_experts(const ModelConfig& c) {
    const int64_t matrices = c.ffn == FeedForwardKind::swiglu ? 3 : 2, expert = matrices * c.d_model * c.d_ff;
    return c.d_model * c.num_experts + (c.num_experts + c.shared_experts) * expert;  // with the router
}

int64_t of_indexer(const ModelConfig& c) {
    const bool deepseek = c.indexer == IndexerKind::deepseek;
    const int64_t q =
        (c.indexer_reads_latent() ? c.q_lora_rank : c.d_model) * c.indexer_heads * c.indexer_dim;
    const int64_t k = c.d_model * c.indexer_dim + (deepseek ? 2 * c.indexer_dim : 0);  // with its LayerNorm
    return q + k + c.d_model * c.indexer_heads;
}

}  // namespace

ParameterCount parameter_count(const ModelConfig& c) {
    const int64_t block = 2 * c.d_model + of_attention(c) + of_experts(c);
    return {.main = c.vocab_size * c.d_model + c.n_layers * block + c.d_model,
            .indexer = c.has_indexer() ? c.n_layers * of_indexer(c) : 0};
}

}  // namespace sieve
