// What a trained model looks at: attention patterns of one text, and statistics over many validation windows.
#pragma once

#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "models/transformer.h"

namespace sieve {

// One layer's attention over one text of T tokens. Matrices are row-major [T,T]: query t, key s. Entries that
// do not exist (the future, or keys that were not selected) are NaN.
struct AttentionPattern {
    int64_t layer = 0, tokens = 0, top_k = 0;
    std::vector<float> weights;               // mean over heads of what attention reads
    std::vector<std::vector<float>> by_head;  // the same for each head
    // Sparse model only.
    std::vector<float> scores;                    // the indexer's
    std::vector<uint8_t> selected;                // 1: read
    std::vector<std::vector<float>> head_scores;  // w_j ReLU(q_j k) of each indexer head
};

// tokens int32 [1,T]
std::vector<AttentionPattern> attention_patterns(const Transformer& model, const Tensor& tokens);

// Window `index` of the validation set, int32 [1,T]. A usage error when there are not so many.
Tensor validation_window(const Dataset& data, int64_t index);

// Per layer; each vector has one value a sample, `distances` one a selected key.
struct SelectionStatistics {
    int64_t layer = 0;
    std::vector<double> sparsity;      // share of the causal triangle that is not read
    std::vector<double> coverage;      // share of the keys that some query with a choice selected
    std::vector<double> recall;        // share of the true top k (by dense attention) that is selected
    std::vector<double> covered_mass;  // dense attention's mass on the selected keys
    std::vector<double> distances;     // query position - key position, of queries with a choice (t >= k)
};

std::vector<SelectionStatistics> selection_statistics(const Transformer& model, const Dataset& data,
                                                      int64_t samples);

// attention_pattern_layer{N}.png, indexer_heads_layer{N}.png for each layer of `layers`, and for a sparse
// model attention_statistics.png and attention_statistics.json. Returns the paths written.
std::vector<std::string> write_attention_pictures(const Transformer& model, const Dataset& data,
                                                  const std::vector<int64_t>& layers, int64_t sample,
                                                  const std::string& folder);

}  // namespace sieve
