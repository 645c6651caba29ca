#include "framework/train/flops.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace sieve {
namespace {

using Matrix = std::pair<double, double>;  // rows, columns

double newton_schulz(Matrix matrix) {
    const double m = std::min(matrix.first, matrix.second), n = std::max(matrix.first, matrix.second);
    // As optim/muon_cpu.cpp computes it; a symmetric product costs half. Square: A = X X^T, A A and B X, five
    // times.
    if (m == n) return 5 * (m * m * n + m * m * m + 2 * m * m * n);
    // Otherwise three iterations and then two on the Gram matrix alone, each group with one A = X X^T and one
    // Q X.
    return 6 * m * m * n + 14 * m * m * m;
}

double optimizer_of(const std::vector<Matrix>& matrices) {
    double sum = 0;
    for (const Matrix& matrix : matrices) sum += newton_schulz(matrix);
    return sum;
}

double elements_of(const std::vector<Matrix>& matrices) {
    double sum = 0;
    for (const auto& [rows, columns] : matrices) sum += rows * columns;
    return sum;
}

// The attention of one layer as it is computed: latent attention in its multi-query form.
struct AttentionShape {
    std::vector<Matrix> weights;   // each read once by every token
    double heads, dim, value_dim;  // of the queries and the values that attention reads
};

AttentionShape attention_shape(const ModelConfig& c) {
    const auto d = static_cast<double>(c.d_model), H = static_cast<double>(c.n_heads);
    if (c.attention_type != "mla") {
        const double dh = d / H, qkv = (H + 2 * static_cast<double>(c.kv_heads())) * dh;
        return {{{qkv, d}, {d, d}}, H, dh, dh};
    }
    const auto q_rank = static_cast<double>(c.q_lora_rank), C = static_cast<double>(c.kv_lora_rank);
    const auto N = static_cast<double>(c.qk_nope_head_dim), R = static_cast<double>(c.qk_rope_head_dim);
    const auto V = static_cast<double>(c.v_head_dim);
    AttentionShape shape{{{C + R, d}, {H * (N + V), C}, {d, H * V}}, H, C + R, C};
    if (c.q_lora_rank) shape.weights.push_back({q_rank, d});
    shape.weights.push_back({H * (N + R), c.q_lora_rank ? q_rank : d});
    return shape;
}

std::vector<Matrix> indexer_weights(const ModelConfig& c) {
    const auto d = static_cast<double>(c.d_model), heads = static_cast<double>(c.indexer_heads);
    const auto dim = static_cast<double>(c.indexer_dim);
    const bool reads_latent = c.attention_type == "mla" && c.indexer == "deepseek" && c.q_lora_rank > 0;
    return {{heads * dim, reads_latent ? static_cast<double>(c.q_lora_rank) : d}, {dim, d}, {heads, d}};
}

std::vector<Matrix> expert_weights(const ModelConfig& c, double width) {
    const auto d = static_cast<double>(c.d_model);
    std::vector<Matrix> weights{{width, d}, {d, width}};
    if (c.ffn == "swiglu") weights.push_back({width, d});
    return weights;
}

// Keys that a query reads in a layer, on average.
double keys_read(const ModelConfig& c, int64_t layer, int64_t seq_len) {
    const auto T = static_cast<double>(seq_len);
    if (!c.is_sparse()) return (T + 1) / 2;
    const auto k = static_cast<double>(std::min(c.sparse_top_k.of(layer), seq_len));
    return (k * (k + 1) / 2 + (T - k) * k) / T;
}

}  // namespace

StepFlops training_step_flops(const ModelConfig& c, int64_t batch_size, int64_t seq_len) {
    const auto tokens = static_cast<double>(batch_size * seq_len), T = static_cast<double>(seq_len);
    const auto d = static_cast<double>(c.d_model), ff = static_cast<double>(c.d_ff);
    const auto E = static_cast<double>(c.num_experts), shared = static_cast<double>(c.shared_experts);
    const AttentionShape attention = attention_shape(c);
    const std::vector<Matrix> expert = expert_weights(c, ff), shared_expert = expert_weights(c, shared * ff);
    const std::vector<Matrix> indexer = c.is_sparse() ? indexer_weights(c) : std::vector<Matrix>{};
    const auto indexer_width = static_cast<double>(c.indexer_heads * c.indexer_dim);

    StepFlops flops;
    const double per_token = elements_of(attention.weights) + E * d + elements_of(shared_expert) +
                             static_cast<double>(c.expert_top_k) * elements_of(expert);
    const auto layers = static_cast<double>(c.n_layers);
    flops.projections = 6 * tokens * (layers * per_token + d * static_cast<double>(c.vocab_size));
    for (int64_t layer = 0; layer < c.n_layers; ++layer) {
        const double keys = keys_read(c, layer, seq_len), triangle = (T + 1) / 2;
        // Forward: q k and a v. Backward: the scores again, dout v, and the products that make dq, dk and dv.
        flops.attention +=
            tokens * 2 * keys * attention.heads * (4 * attention.dim + 3 * attention.value_dim);
        // The indexer's input is detached: projections have a forward and a weight gradient. Scores are
        // computed for the selection over the triangle; the loss and its gradient (dq, dk) only over the
        // selected pairs, whose main scores are computed once more.
        if (c.is_sparse())
            flops.indexer += tokens * (4 * elements_of(indexer) + 2 * triangle * indexer_width +
                                       6 * keys * indexer_width + 2 * keys * attention.heads * attention.dim);
    }
    flops.optimizer =
        layers * (optimizer_of(attention.weights) + optimizer_of(indexer) + newton_schulz({E, d}) +
                  E * optimizer_of(expert) + (c.shared_experts ? optimizer_of(shared_expert) : 0));
    return flops;
}

}  // namespace sieve
