#include "framework/train/flops.h"

#include <algorithm>

namespace sieve {
namespace {

double newton_schulz(double rows, double cols) {
    const double m = std::min(rows, cols), n = std::max(rows, cols);
    // As optim/muon_cpu.cpp computes it; a symmetric product costs half. Square: A = X X^T, A A and B X, five
    // times.
    if (m == n) return 5 * (m * m * n + m * m * m + 2 * m * m * n);
    // Otherwise three iterations and then two on the Gram matrix alone, each group with one A = X X^T and one
    // Q X.
    return 6 * m * m * n + 14 * m * m * m;
}

}  // namespace

StepFlops training_step_flops(const ModelConfig& c, int64_t batch_size, int64_t seq_len) {
    const auto tokens = static_cast<double>(batch_size * seq_len), T = static_cast<double>(seq_len);
    const auto d = static_cast<double>(c.d_model), ff = static_cast<double>(c.d_ff);
    const auto layers = static_cast<double>(c.n_layers), E = static_cast<double>(c.num_experts);
    const auto vocab = static_cast<double>(c.vocab_size), selected = static_cast<double>(c.expert_top_k);
    const auto k = static_cast<double>(std::min(c.sparse_top_k, seq_len));
    const double triangle = (T + 1) / 2;                      // keys per query, on average
    const double kept = (k * (k + 1) / 2 + (T - k) * k) / T;  // selected keys per query, on average
    const double keys = c.is_sparse() ? kept : triangle;

    StepFlops flops;
    const double per_token = 2 * (4 * d * d + selected * 2 * d * ff + d * E);
    flops.projections = 3 * tokens * (layers * per_token + 2 * d * vocab);
    flops.attention = tokens * layers * 3.5 * (4 * keys * d);  // backward recomputes: five products for two
    if (c.is_sparse()) {
        const auto heads = static_cast<double>(c.indexer_heads), dim = static_cast<double>(c.indexer_dim);
        const double project = 2 * d * (heads * dim + dim + heads);
        // The input is detached: projections have a forward and a weight gradient. Scores are computed for
        // the selection over the triangle; the loss and its gradient (dq, dk) only over the selected pairs.
        flops.indexer = tokens * layers *
                        (2 * project + 2 * triangle * heads * dim + 6 * kept * heads * dim + 2 * kept * d);
    }
    flops.optimizer = layers * (newton_schulz(3 * d, d) + newton_schulz(d, d) + newton_schulz(E, d) +
                                E * (newton_schulz(ff, d) + newton_schulz(d, ff)));
    return flops;
}

}  // namespace sieve
