#include "framework/measure/flops.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "framework/nn/step_parts.h"

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
    if (c.attention_type != AttentionType::mla) {
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
    const auto q_width = c.indexer_reads_latent() ? static_cast<double>(c.q_lora_rank) : d;
    std::vector<Matrix> weights{{heads * dim, q_width}, {dim, d}};
    if (c.indexer_weights == IndexerWeights::on) weights.push_back({heads, d});
    return weights;
}

std::vector<Matrix> feed_forward_weights(const ModelConfig& c, double width) {
    const auto d = static_cast<double>(c.d_model);
    std::vector<Matrix> weights{{width, d}, {d, width}};
    if (c.ffn == FeedForwardKind::swiglu) weights.push_back({width, d});
    return weights;
}

// Keys that a query reads in a layer, on average.
double keys_read(const ModelConfig& c, int64_t layer, int64_t seq_len) {
    const auto T = static_cast<double>(seq_len);
    if (!c.is_sparse()) return (T + 1) / 2;
    const auto k = static_cast<double>(std::min(c.sparse_top_k.of(layer), seq_len));
    if (c.leaks) return k;
    return (k * (k + 1) / 2 + (T - k) * k) / T;
}

// What a matrix product, attention over one pair of query and key, and so on cost in units of the formulas
// below: in a forward alone, and in a forward with its backward.
struct Passes {
    double matmul;           // of a product with a weight, in products
    double detached_matmul;  // the same without a gradient of its input
    double score_products;   // q k, and in the backward again; the products that make dq and dk
    double value_products;   // a v; dout v, and the product that makes dv
    double loss_scores;      // of the alignment loss: the scores of its pairs; dq and dk
    bool trains;             // whether the alignment loss is that of training
};
constexpr Passes forward_pass{1, 1, 1, 1, 1, false}, training_passes{3, 2, 4, 3, 3, true};

StepFlops model_flops(const ModelConfig& c, int64_t batch_size, int64_t seq_len, const Passes& passes) {
    const auto tokens = static_cast<double>(batch_size * seq_len), T = static_cast<double>(seq_len);
    const auto d = static_cast<double>(c.d_model), E = static_cast<double>(c.num_experts);
    const auto layers = static_cast<double>(c.n_layers), top_k = static_cast<double>(c.expert_top_k);
    const auto ff = static_cast<double>(c.d_ff), shared = static_cast<double>(c.shared_experts);
    const AttentionShape attention = attention_shape(c);
    const double expert_elements = E * d + elements_of(feed_forward_weights(c, shared * ff)) +
                                   top_k * elements_of(feed_forward_weights(c, ff));
    const double dense_elements = elements_of(feed_forward_weights(c, static_cast<double>(c.dense_width())));

    StepFlops flops;
    const double per_element = 2 * passes.matmul * tokens;
    flops.projections = per_element * layers * elements_of(attention.weights);
    flops.experts = per_element * (static_cast<double>(c.expert_layers()) * expert_elements +
                                   static_cast<double>(c.dense_layers()) * dense_elements);
    flops.head = per_element * d * static_cast<double>(c.vocab_size);
    for (int64_t layer = 0; layer < c.n_layers; ++layer) {
        const double keys = keys_read(c, layer, seq_len), triangle = (T + 1) / 2;
        flops.attention +=
            tokens * 2 * keys * attention.heads *
            (passes.score_products * attention.dim + passes.value_products * attention.value_dim);
        if (!c.is_sparse()) continue;
        const bool shares = c.shares_index(layer);
        if (const auto products = selector_kind(c.selector).products; products && !shares)
            flops.selection +=
                tokens * 2 * products(selector_config(c, layer), attention.heads * attention.dim, triangle);
        if (!c.has_indexer()) continue;
        const auto indexer_width = static_cast<double>(c.indexer_heads * c.indexer_dim);
        // The indexer's input is detached: projections have a forward and a weight gradient. The loss and its
        // gradient only read the selected pairs (full_row: all), whose main scores are computed once more.
        if (!shares)
            flops.indexer_projections +=
                2 * passes.detached_matmul * tokens * elements_of(indexer_weights(c));
        if (shares && c.index_share_loss == IndexShareLoss::own) continue;
        const double loss_keys = passes.trains && c.indexer_loss == IndexerLoss::full_row ? triangle : keys;
        flops.alignment_loss +=
            tokens * 2 * loss_keys * (passes.loss_scores * indexer_width + attention.heads * attention.dim);
    }
    return flops;
}

}  // namespace

StepFlops forward_flops(const ModelConfig& c, int64_t batch_size, int64_t seq_len) {
    return model_flops(c, batch_size, seq_len, forward_pass);
}

StepFlops training_step_flops(const ModelConfig& c, int64_t batch_size, int64_t seq_len) {
    StepFlops flops = model_flops(c, batch_size, seq_len, training_passes);
    const auto d = static_cast<double>(c.d_model), ff = static_cast<double>(c.d_ff);
    const auto E = static_cast<double>(c.num_experts), shared = static_cast<double>(c.shared_experts);
    flops.optimizer = static_cast<double>(c.n_layers) * optimizer_of(attention_shape(c).weights) +
                      static_cast<double>(c.expert_layers()) *
                          (newton_schulz({E, d}) + E * optimizer_of(feed_forward_weights(c, ff)) +
                           (c.shared_experts ? optimizer_of(feed_forward_weights(c, shared * ff)) : 0)) +
                      static_cast<double>(c.dense_layers()) *
                          optimizer_of(feed_forward_weights(c, static_cast<double>(c.dense_width())));
    if (c.has_indexer())
        flops.optimizer += static_cast<double>(c.own_indexes()) * optimizer_of(indexer_weights(c));
    return flops;
}

double flops_of_part(const StepFlops& flops, std::string_view part) {
    const std::pair<const char*, double> parts[] = {
        {step_part::projections, flops.projections},
        {step_part::indexer_projections, flops.indexer_projections},
        {step_part::selection, flops.selection},
        {step_part::attention, flops.attention},
        {step_part::alignment_loss, flops.alignment_loss},
        {step_part::experts, flops.experts},
        {step_part::head, flops.head},
        {step_part::optimizer, flops.optimizer}};
    for (const auto& [name, count] : parts)
        if (part == name) return count;
    return 0;
}

}  // namespace sieve
