// What a trained model looks at: attention patterns of one text, and statistics over many validation windows.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/dataset.h"
#include "models/transformer.h"

namespace sieve {

// One text to look at, of T >= 1 tokens.
struct TextSample {
    Tensor tokens;                   // int32 [1,T]
    std::vector<std::string> names;  // of the tokens, as an axis shows them
    std::string what;                // for a title: "validation window 3", "text “The first words…”"
    int64_t left_out = 0;            // how many tokens at the text's end were cut off
};

// A window of the validation set. A usage error when there are not so many.
TextSample validation_sample(const Dataset& data, int64_t index);
// The first `longest` tokens of a text. A usage error when the text is empty.
TextSample text_sample(const Tokenizer& tokenizer, std::string_view text, int64_t longest);

// One layer's attention over one text of T tokens. Matrices are row-major [T,T]: query t, key s. Entries that
// do not exist (the future, or keys that were not selected) are NaN.
struct AttentionPattern {
    int64_t layer = 0, tokens = 0, top_k = 0;
    std::vector<float> weights;               // mean over heads of what attention reads
    std::vector<std::vector<float>> by_head;  // the same for each head; classic model only
    std::vector<uint8_t> selected;            // 1: read; sparse model only
    // Of a lightning indexer; empty without one.
    std::vector<float> scores;
    std::vector<std::vector<float>> head_scores;  // w_j ReLU(q_j k) of each indexer head; they sum to scores
};

// tokens int32 [1,T]
AttentionPattern attention_pattern(const Transformer& model, const Tensor& tokens, int64_t layer);

// What the selections of one layer were like. Each vector has one value a window. A query t has a choice when
// it may read more keys than it selects (t >= k).
struct LayerSelections {
    int64_t layer = 0;
    std::vector<double> sparsity;      // share of the causal triangle that is not read
    std::vector<double> recall;        // share of the true top k (by dense attention) that is selected
    std::vector<double> covered_mass;  // dense attention's mass on the selected keys
    std::vector<double> oracle_mass;   // the same on the true top k, whose recall is 1
    std::vector<double> entropy;       // of dense attention, mean over heads; nats
    double chance = 1;                 // recall and covered mass of random keys
    // Over the queries that have a choice; empty (chance: NaN) when none has.
    std::vector<double> recall_of_choices, covered_mass_of_choices, oracle_mass_of_choices;
    std::vector<double> recall_above_chance, mass_above_chance;  // 0: random keys, 1: the true top k
    double chance_of_choices = NAN;
    std::vector<double> ties;              // share of selected keys with the score of another selected one
    std::vector<double> heads_overlap;     // of the indexer's heads, above chance; empty: has none, or one
    std::vector<double> first_key;         // share of queries that select key 0
    std::vector<double> query_overlap;     // share of the keys of query t - 1 that query t selects
    std::vector<double> coverage;          // share of the T keys that some query selected
    std::vector<int64_t> distance_counts;  // [T]: selections by distance, t - s
};

struct SelectionStatistics {
    int64_t windows = 0, tokens = 0;
    PerLayer top_k = 0;
    std::vector<LayerSelections> layers;
    // [layer a][layer b]: the share of b's keys that a selects too, over the queries with a choice in a; 1
    // where a is b, NaN where a has none. Random: chance_of_choices of a.
    std::vector<std::vector<double>> layer_overlap;
    std::vector<double> loss_by_position;  // [T], nats, of the model as it is (sparse attention)
};

// Over the first `windows` validation windows, or as many as there are.
SelectionStatistics selection_statistics(const Transformer& model, const Dataset& data, int64_t windows);

// For each layer of `layers`: attention_pattern_layer{N}.png and indexer_heads_layer{N}.png of a sparse
// model, dense_attention_layer{N}.png of a classic one. Returns the paths written.
std::vector<std::string> write_attention_pictures(const Transformer& model, const TextSample& sample,
                                                  const std::vector<int64_t>& layers,
                                                  const std::string& folder);

// attention_statistics.png and attention_statistics.json. Returns the paths written.
std::vector<std::string> write_selection_statistics(const SelectionStatistics& statistics,
                                                    const std::string& folder);

inline constexpr int64_t statistics_windows = 64;  // that the programs look at

}  // namespace sieve
