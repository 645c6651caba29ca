#include "models/parameter_count.h"

#include <limits>

namespace sieve {
namespace {

// A whole number of at least 0 that stays at the largest one where a sum or a product would pass it.
struct Count {
    int64_t value;
    Count(int64_t v) : value(v) {}  // not explicit: sizes are plain numbers
};
constexpr int64_t largest = std::numeric_limits<int64_t>::max();
Count operator+(Count a, Count b) {
    int64_t sum = 0;
    return __builtin_add_overflow(a.value, b.value, &sum) ? largest : sum;
}
Count operator*(Count a, Count b) {
    int64_t product = 0;
    return __builtin_mul_overflow(a.value, b.value, &product) ? largest : product;
}

Count of_attention(const ModelConfig& c) {
    const Count d = c.d_model, H = c.n_heads;
    if (c.attention_type != AttentionType::mla) {
        const Count qkv = (H + Count(2) * c.kv_heads()) * (c.d_model / c.n_heads);
        return qkv * d + d * d;
    }
    const Count N = c.qk_nope_head_dim, R = c.qk_rope_head_dim, V = c.v_head_dim, C = c.kv_lora_rank;
    const Count q_rank = c.q_lora_rank, q_width = H * (N + R);
    const Count queries =
        c.q_lora_rank ? d * q_rank + q_rank + q_rank * q_width : d * q_width;  // with their norm
    const Count keys_and_values = d * (C + R) + C + C * H * (N + V);           // likewise
    const Count biases = c.attention_bias ? q_rank + C + R + d : Count(0);
    return queries + keys_and_values + H * V * d + biases;
}

Count of_feed_forward(const ModelConfig& c, int64_t width) {
    const Count matrices = c.ffn == FeedForwardKind::swiglu ? 3 : 2;
    return matrices * c.d_model * width;
}

Count of_experts(const ModelConfig& c) {
    const Count experts = c.num_experts;
    return experts * c.d_model +
           (experts + c.shared_experts) * of_feed_forward(c, c.d_ff);  // with the router
}

Count of_indexer(const ModelConfig& c) {
    const bool deepseek = c.indexer == IndexerKind::deepseek;
    const Count d = c.d_model, heads = c.indexer_heads, dim = c.indexer_dim;
    const Count q = (c.indexer_reads_latent() ? Count(c.q_lora_rank) : d) * heads * dim;
    const Count k = d * dim + (deepseek ? Count(2) * dim : Count(0));  // with its LayerNorm
    return q + k + (c.indexer_weights == IndexerWeights::on ? d * heads : Count(0));
}

}  // namespace

int64_t ParameterCount::total() const {
    return (Count(main) + indexer).value;
}

ParameterCount parameter_count(const ModelConfig& c) {
    const Count d = c.d_model, layers = c.n_layers;
    const Count block = Count(2) * d + of_attention(c);
    const Count feed_forward = Count(c.expert_layers()) * of_experts(c) +
                               Count(c.dense_layers()) * of_feed_forward(c, c.dense_width());
    const Count vocabularies = c.tie_embeddings ? 1 : 2;
    return {.main = (vocabularies * c.vocab_size * d + layers * block + feed_forward + d).value,
            .indexer = c.has_indexer() ? (Count(c.own_indexes()) * of_indexer(c)).value : 0};
}

}  // namespace sieve
