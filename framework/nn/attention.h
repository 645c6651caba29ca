// Causal self-attention with RoPE, classic or sparse. The sparse one owns a lightning indexer, which scores
// all earlier tokens; the top k are kept and attention reads only those (DeepSeek-V3.2-Exp, section 2.1).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "framework/attention/selection/selection.h"
#include "framework/nn/attention_cache.h"
#include "framework/nn/attention_projections.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"

namespace sieve {

enum class IndexerKind {
    plain,     // I = scale * sum_j w_j ReLU(q_j k): the original experiment's
    deepseek,  // also LayerNorm on k, half-split RoPE on the first half of the dims
};

struct IndexerConfig {
    IndexerKind kind = IndexerKind::plain;
    int64_t heads = 0, dim = 0, top_k = 0;
    double scale = 1;
    IndexerPrecision precision = IndexerPrecision::fp32;  // of the scores that select
};

struct AttentionConfig {
    int64_t d_model, n_heads;
    int64_t n_kv_heads;  // n_heads: classic multi-head attention
    double rope_base, norm_eps;
    std::optional<LatentAttentionConfig> latent;  // set: latent attention; n_kv_heads then plays no part
    std::optional<IndexerConfig> indexer;         // set: sparse attention
    bool materialised = false;                    // classic attention by materialised_attention.h

    // DeepSeek's indexer makes its queries from the query latent, where there is one.
    bool indexer_reads_latent() const {
        return indexer && indexer->kind == IndexerKind::deepseek && latent && latent->q_rank > 0;
    }
};

// What the indexer made of one layer's input: the operands of the lightning_indexer ops.
struct IndexerProjections {
    Tensor q;  // [B,T,HI,dI]
    Tensor k;  // [B,T,dI]
    Tensor w;  // [B,T,HI]
};

// The keys of each query, [B,T,...], at the precision of the indexer.
Selection select_keys(const IndexerProjections& projections, const IndexerConfig& config);

class Indexer : public Module {
  public:
    // q_width: of what the queries are made from.
    Indexer(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t q_width,
            const IndexerConfig& config, double rope_base);
    // x [B,T,d], the block's normed input, and q_source [B,T,q_width], both at the positions from
    // `first_position` on. They are detached here: nothing below sends a gradient into the model.
    IndexerProjections operator()(const Tensor& x, const Tensor& q_source, int64_t first_position = 0) const;
    const IndexerConfig& config() const { return config_; }

  private:
    IndexerConfig config_;
    RopeConfig rope_;
    Linear q_proj_, k_proj_, w_proj_;
    std::unique_ptr<LayerNorm> k_norm_;  // deepseek only
};

// Which keys a sparse model's attention reads, and what its indexer is trained on.
enum class AttentionStage {
    dense,   // all earlier tokens; the alignment loss runs over all of them (warm-up)
    sparse,  // the selected tokens; the alignment loss runs over those
};

// Everything that one attention layer computed on the way, for losses, evaluation and pictures.
struct AttentionTrace {
    Tensor q, k, v;  // [B,H,T,dh], [B,G,T,dh], [B,G,T,dv], after RoPE
    Tensor lse;      // [B,H,T], over the keys that attention read; undefined when it was materialised
    double scale = 0;
    IndexerProjections indexer;  // sparse model only, like all below
    Selection selection;         // sparse stage only
    Tensor indexer_loss;         // scalar; only when asked for
};

class SelfAttention : public Module {
  public:
    SelfAttention(const ParameterInit& init, const std::string& full_name, const AttentionConfig& config);
    // x [B,T,d] -> [B,T,d]. Fills `trace`; computes the alignment loss when `with_indexer_loss`.
    // With a `cache`, x follows the tokens that it holds (T is 1 unless it is empty) and is added to it; the
    // trace then has the new tokens alone.
    Tensor operator()(const Tensor& x, AttentionStage stage, bool with_indexer_loss, AttentionTrace& trace,
                      AttentionCache* cache = nullptr) const;
    const Indexer* indexer() const { return indexer_.get(); }

  private:
    Tensor attend(AttentionStage stage, bool with_indexer_loss, AttentionTrace& trace) const;
    AttentionOutput attend_densely(const AttentionTrace& trace) const;
    Tensor alignment_loss(AttentionStage stage, const AttentionTrace& trace,
                          const SelectedWeights& weights) const;
    Tensor attend_to_cache(AttentionStage stage, AttentionTrace& trace, const AttentionCache& cache) const;

    bool indexer_reads_latent_, materialised_;
    std::unique_ptr<AttentionProjections> projections_;
    Linear w_o_;
    std::unique_ptr<Indexer> indexer_;
};

}  // namespace sieve
