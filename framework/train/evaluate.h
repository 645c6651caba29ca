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
// batches (0: all), without dropout or router noise; also the loss of the tokens at positions below the
// smallest sparse_top_k and from it on (val_loss_below_k, val_loss_from_k; NaN of no token). Of a sparse
// model also its selections', each by layer and its mean over the layers that have it:
//
//   indexer_kl                the alignment loss of the sparse stage, over the same batches
//   indexer_captured          1 - KL / KL of the uniform distribution over the same keys
// of dense attention on the first batch (ops/indexer_quality/indexer_quality.h):
//   indexer_recall, indexer_covered_mass; what random keys (indexer_chance) and the best ones
//   (indexer_oracle_mass; their recall is 1) would reach
//   indexer_recall_above_chance, indexer_mass_above_chance
//   attention_entropy         of the mean over heads, nats
// of the selections that were judged there, over the queries with a choice; random keys would have
// indexer_chance_of_choices (attention/selection/selection_recall.h):
//   indexer_precision_recall  unless with fp32: share of float32's keys that the indexer_precision selects
//   selection_ties            share of selected keys whose score another one has (scores/tied_scores.h);
//                             chance says nothing of it
//   indexer_heads_overlap     how much the heads of an indexer, each alone, would select alike, above chance
//   indexer_heads_decided     how far their own scores decide what they would (scores/head_overlap.h); of one
//                             head neither
//   selection_first_key       share of queries that select key 0
//   selection_query_overlap   share of query t - 1's keys that query t selects
//   selection_layer_overlap   share of another layer's keys that this one selects, mean over the others
//
// Throws Error(diverged) when the loss is not finite, and names the first number that is not.
Measurement evaluate(const Transformer& model, const Dataset& data, int64_t batches);

}  // namespace sieve
