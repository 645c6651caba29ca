// Causal self-attention with RoPE. With a selector (selector.h) it reads the keys that this chooses, without
// one all earlier ones.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "framework/nn/attention_cache.h"
#include "framework/nn/attention_projections.h"
#include "framework/nn/selector.h"
#include "framework/ops/dense_attention/dense_attention.h"

namespace sieve {

struct AttentionConfig {
    int64_t d_model, n_heads;
    int64_t n_kv_heads;  // n_heads: classic multi-head attention
    RopeAngles rope;
    double score_factor = 1;                      // of q . k, beside 1 / sqrt of the head size
    std::optional<LatentAttentionConfig> latent;  // set: latent attention; n_kv_heads then plays no part
    std::optional<SelectorConfig> selector;       // set: attention reads what a selector chooses
    bool materialised = false;                    // all keys, by materialised_attention.h
    bool leaks = false;  // reads later keys as the original's selector did: leaking_attention there

    // DeepSeek's indexer makes its queries from the query latent, where there is one.
    bool selector_reads_latent() const {
        return selector && selector->indexer.kind == IndexerKind::deepseek && latent && latent->q_rank > 0;
    }
};

// Which keys attention reads where there is a selector.
enum class AttentionStage {
    dense,   // all earlier tokens (warm-up)
    sparse,  // the selected tokens
};

// What trains a selector that learns.
enum class SelectorLoss {
    alignment,       // towards attention over the keys that it reads
    full_alignment,  // towards dense attention over all earlier keys, whichever of them attention reads
    entropy,         // towards nothing: its own distribution over all earlier keys is made uniform
};

// What chooses the keys of a layer, and what it chose. A layer without a selector of its own may be given
// that of a layer before it.
struct LayerSelection {
    const Selector* selector = nullptr;  // null: none, and nothing below
    std::shared_ptr<const SelectorState> selector_state;
    Selection selection;  // sparse stage only; of the selector: what a leak reads beside it is not in it
};

// Everything that one attention layer computed on the way, for losses, evaluation and pictures.
struct AttentionTrace : LayerSelection {
    Tensor q, k, v;  // [B,H,T,dh], [B,G,T,dh], [B,G,T,dv], after RoPE
    double scale = 0;
    Tensor indexer_loss;  // scalar; only when asked for, of a selector that learns

    MainAttention main_attention() const { return {q, k, scale}; }
    // What the selector would choose, whatever the stage.
    Selection select() const { return selector->select(*selector_state); }
    const IndexerOperands* indexer_operands() const {  // null: no lightning indexer
        return selector ? selector->indexer_operands(*selector_state) : nullptr;
    }
};

class SelfAttention : public Module {
  public:
    SelfAttention(const ParameterInit& init, const std::string& full_name, const AttentionConfig& config);
    // x [B,T,d] -> [B,T,d]. Fills `trace`, but for another layer's selection that it holds already: this
    // layer then reads those keys. Computes the loss of the selector that is asked for. With a `cache`,
    // x follows the tokens that it holds (T is 1 unless it is empty) and is added to it; the trace then has
    // the new tokens alone.
    Tensor operator()(const Tensor& x, AttentionStage stage, std::optional<SelectorLoss> loss,
                      AttentionTrace& trace, AttentionCache* cache = nullptr) const;
    // One more token of each of S texts: x [1,S,d] -> [1,S,d], row i with the bits that the call above gives it alone.
    // It follows what caches[i] holds, which is not nothing, and is added to it. Selections of another layer come and
    // go in selections[i], as in a trace. On the CPU, without gradients.
    Tensor next_of_each(const Tensor& x, AttentionStage stage, const std::vector<AttentionCache*>& caches,
                        std::vector<LayerSelection>& selections) const;

  private:
    double score_scale() const;
    // What the selector makes of tokens from `position` on, whose heads are in the trace.
    void project_selector(const Tensor& x, const Tensor& q_latent, int64_t position, AttentionTrace& trace,
                          AttentionCache* cache) const;
    Tensor attend(AttentionStage stage, std::optional<SelectorLoss> loss, AttentionTrace& trace) const;
    Tensor attend_densely(const AttentionTrace& trace) const;
    Tensor attend_to_selection(const AttentionTrace& trace, SelectedWeights* weights) const;
    Tensor attend_to_cache(AttentionStage stage, AttentionTrace& trace, const AttentionCache& cache) const;

    bool selector_reads_latent_, materialised_, leaks_;
    double score_factor_;
    std::unique_ptr<AttentionProjections> projections_;
    Linear w_o_;
    std::unique_ptr<Selector> selector_;
};

}  // namespace sieve
