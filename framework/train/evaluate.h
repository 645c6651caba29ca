// Evaluation: validation loss and accuracy, and how well the indexer's selections match dense attention.
#pragma once

#include "framework/data/dataset.h"
#include "framework/train/metrics.h"
#include "models/transformer.h"

namespace sieve {

// Share of attention entries that are not read. A query at position t reads min(k, t + 1) keys.
struct Sparsity {
    double square;  // of the T x T square (the future counts as not read): what the original reported
    double causal;  // of the t + 1 keys that a query may read
};
Sparsity sparsity_of(int64_t seq_len, int64_t top_k);
Sparsity sparsity_of(const ModelConfig& config);  // of max_seq_len tokens, over all layers

// The validation's metrics (val_loss, val_accuracy, ...; metrics.h) over the first `batches` validation
// batches (0: all), without dropout or router noise. Of a sparse model also the indexer's: indexer_kl over
// the same batches, of the sparse stage; by layer, on the first batch, how well the selections match dense
// attention and, unless with fp32, the share of float32's keys that the indexer_precision selects (of its
// queries with a choice). Throws Error(diverged) when the loss is not finite, and names the first number that
// is not.
Measurement evaluate(const Transformer& model, const Dataset& data, int64_t batches);

}  // namespace sieve
