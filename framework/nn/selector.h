// The seam between attention and whatever chooses the keys that it reads. A layer with a selector attends to
// the top k keys of each query, one without to all of them; training, evaluation, pictures and decoding ask
// the same object:
//
//   state     = project(input)               what the selector makes of a layer's input, once a forward
//   selection = select(state)                min(k, t + 1) keys s <= t of each query t; no gradient flows through it
//   append(state, cache)                     decoding: remembers new tokens
//   selection = select_next(state, cache, n) the keys of the last of n tokens: the row that select() gives
//   loss      = alignment_loss(state, ...)   what trains a selector that learns, or
//   loss      = entropy_loss(state)          the same without a target
//
// Row t of select() depends on the tokens 0..t alone, to the bit. A selector is one file in nn/selectors/ and
// one line in the table there (docs/adding.md).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"
#include "framework/nn/module.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "framework/ops/rope/rope.h"

namespace sieve {

enum class IndexerKind {
    plain,     // I = scale * sum_j w_j ReLU(q_j k): the original experiment's
    deepseek,  // also LayerNorm on k and RoPE on the first dims
};

// Of selectors that have a lightning indexer.
struct IndexerConfig {
    IndexerKind kind = IndexerKind::plain;
    int64_t heads = 0, dim = 0;
    double scale = 1;
    bool weights = true;                              // false: every w is 1, and there is no w_proj
    int64_t rope_dim = 0;                             // deepseek only: rotated dims, even
    RopeLayout rope_layout = RopeLayout::half_split;  // deepseek only
    int64_t pool = 1;  // of the selector `indexer`: tokens whose keys are averaged to one
    IndexerPrecision precision = IndexerPrecision::fp32;  // of the scores that select
};

struct SelectorConfig {
    std::string kind = "indexer";  // a name of selector_kinds()
    int64_t layer = 0, top_k = 0;
    int64_t sinks = 4;       // sink_recent only
    int64_t seed = 0;        // random only
    int64_t block = 16;      // block_mean and hisa only: tokens of a block
    int64_t candidates = 4;  // hisa only: keys scored one by one, as a multiple of top_k
    IndexerConfig indexer;
};

// Where a selector stands in the model.
struct SelectorPlace {
    std::string full_name;     // of its parameters: "blocks.0.attention.indexer"
    int64_t d_model, q_width;  // of SelectorInput's x and q_source
    RopeAngles rope;
};

// All at the positions from `first_position` on. A selector detaches what it learns from: nothing below it
// sends a gradient into the model.
struct SelectorInput {
    Tensor x;         // [B,T,d], the block's normed input
    Tensor q_source;  // [B,T,q_width]: what queries are made from; x, or the query latent of latent attention
    MainAttention attention;  // of the layer, whose keys are chosen
    int64_t first_position = 0;
};

// What a selector keeps of one forward, and of a sequence between forwards; each selector has its own.
struct SelectorState {
    virtual ~SelectorState() = default;
};
struct SelectorCache {
    virtual ~SelectorCache() = default;
};

class Selector : public Module {
  public:
    virtual std::shared_ptr<const SelectorState> project(const SelectorInput& input) const = 0;
    virtual Selection select(const SelectorState& state) const = 0;

    virtual std::unique_ptr<SelectorCache> make_cache() const = 0;
    virtual void append(const SelectorState& state, SelectorCache& cache) const = 0;
    // `state` of one new token, which is the last of the `length` that the cache holds.
    virtual Selection select_next(const SelectorState& state, const SelectorCache& cache,
                                  int64_t length) const = 0;

    // A scalar whose gradient reaches the selector alone, over the keys of `selection` (null: all earlier
    // ones); undefined for a selector that learns nothing. weights: what sparse attention kept of
    // `attention`.
    virtual Tensor alignment_loss(const SelectorState& state, const MainAttention& attention,
                                  const Selection* selection, const SelectedWeights& weights) const;
    // A scalar whose gradient reaches the selector alone and makes its own distribution over all earlier keys
    // more uniform; undefined for a selector that learns nothing.
    virtual Tensor entropy_loss(const SelectorState& state) const;
    // The selection without the rounding that select() has; nothing when it has none.
    virtual std::optional<Selection> select_unrounded(const SelectorState& state) const;
    // The operands of its lightning indexer, for pictures and reports; null when it has none.
    virtual const IndexerOperands* indexer_operands(const SelectorState& state) const;
};

struct SelectorKind {
    const char* name;
    const char* what;  // one line, for people
    bool has_indexer;  // parameters of a lightning indexer, which the alignment loss trains
    // Multiplications that choose the keys of one query among `keys`, on average over the queries;
    // `attention_width` is that of the main attention's queries, all heads together. Null: none.
    double (*products)(const SelectorConfig& config, double attention_width, double keys);
    std::unique_ptr<Selector> (*make)(const ParameterInit& init, const SelectorPlace& place,
                                      const SelectorConfig& config);
};

// The table (nn/selectors/table.cpp).
const std::vector<SelectorKind>& selector_kinds();
// Throws a usage error that lists the names.
const SelectorKind& selector_kind(const std::string& name);

}  // namespace sieve
