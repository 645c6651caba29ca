// Evaluation: validation loss and accuracy, and how well the indexer's selections match dense attention.
#pragma once

#include <vector>

#include "framework/data/dataset.h"
#include "framework/ops/indexer_quality/indexer_quality.h"
#include "models/transformer.h"

namespace sieve {

// Share of attention entries that are not read. A query at position t reads min(k, t + 1) keys.
struct Sparsity {
    double square;  // of the T x T square (the future counts as not read): what the original reported
    double causal;  // of the t + 1 keys that a query may read
};
Sparsity sparsity_of(int64_t seq_len, int64_t top_k);
Sparsity sparsity_of(const ModelConfig& config);  // of max_seq_len tokens, over all layers

struct Evaluation {
    double loss = 0;        // nats per token
    double accuracy = 0;    // share of tokens whose most likely prediction is right
    double perplexity = 0;  // exp(loss)
    // Sparse model only.
    double indexer_kl = 0;                // mean over layers, of the sparse stage
    std::vector<IndexerQuality> quality;  // per layer, on the first validation batch, against dense attention
    // Per layer, on the same batch: the share of float32's keys that an --indexer_precision selects (of its
    // queries with a choice). Empty with fp32.
    std::vector<double> precision_recall;
    double mean_recall() const;
    double mean_covered_mass() const;
    double mean_precision_recall() const;
};

// Over the first `batches` validation batches (0: all), without dropout or router noise.
Evaluation evaluate(const Transformer& model, const Dataset& data, int64_t batches);

}  // namespace sieve
