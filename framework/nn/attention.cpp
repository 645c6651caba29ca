#include "framework/nn/attention.h"

#include "framework/core/error.h"
#include "framework/core/timed_part.h"
#include "framework/nn/materialised_attention.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/decode_attention/decode_attention.h"
#include "framework/ops/decode_select/decode_select.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/reshape/reshape.h"
#include "framework/ops/sparse_attention/sparse_attention.h"

namespace sieve {
namespace {

std::unique_ptr<AttentionProjections> make_projections(const ParameterInit& init,
                                                       const std::string& full_name,
                                                       const AttentionConfig& c) {
    if (c.latent)
        return std::make_unique<LatentProjections>(init, full_name, c.d_model, c.n_heads, *c.latent,
                                                   c.rope_base, c.norm_eps);
    return std::make_unique<GroupedQueryProjections>(init, full_name, c.d_model, c.n_heads, c.n_kv_heads,
                                                     c.rope_base);
}

}  // namespace

Selection select_keys(const IndexerProjections& p, const IndexerConfig& c) {
    return indexer_select(p.q, p.k, p.w, c.scale, c.top_k, c.precision);
}

Indexer::Indexer(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t q_width,
                 const IndexerConfig& config, double rope_base)
    : config_(config),
      rope_{.layout = RopeLayout::half_split, .rotary_dims = config.dim / 2, .base = rope_base},
      q_proj_(init, full_name + ".q_proj", q_width, config.heads * config.dim),
      k_proj_(init, full_name + ".k_proj", d_model, config.dim),
      w_proj_(init, full_name + ".w_proj", d_model, config.heads) {
    add_child("q_proj", q_proj_);
    add_child("k_proj", k_proj_);
    add_child("w_proj", w_proj_);
    if (config.kind == IndexerKind::deepseek) {
        k_norm_ = std::make_unique<LayerNorm>(init, config.dim, 1e-6);
        add_child("k_norm", *k_norm_);
    }
}

IndexerProjections Indexer::operator()(const Tensor& x, const Tensor& q_source,
                                       int64_t first_position) const {
    const int64_t B = x.dim(0), T = x.dim(1);
    const Tensor input = x.detach();
    Tensor q = reshape(q_proj_(q_source.detach()), {B, T, config_.heads, config_.dim});
    Tensor k = k_proj_(input);
    if (config_.kind == IndexerKind::deepseek) {
        const RopeConfig rotation = rope_.starting_at(first_position);
        k = reshape((*k_norm_)(k), {B, T, 1, config_.dim});
        q = rope(q, rotation);
        k = reshape(rope(k, rotation), {B, T, config_.dim});
    }
    return {q, k, w_proj_(input)};
}

SelfAttention::SelfAttention(const ParameterInit& init, const std::string& full_name,
                             const AttentionConfig& config)
    : indexer_reads_latent_(config.indexer_reads_latent()),
      materialised_(config.materialised),
      projections_(make_projections(init, full_name, config)),
      w_o_(init, full_name + ".w_o", projections_->out_width(), config.d_model) {
    add_child("", *projections_);
    add_child("w_o", w_o_);
    if (!config.indexer) return;
    if (materialised_) fail("attention: materialised attention has no indexer");
    const int64_t q_width = indexer_reads_latent_ ? config.latent->q_rank : config.d_model;
    indexer_ = std::make_unique<Indexer>(init, full_name + ".indexer", config.d_model, q_width,
                                         *config.indexer, config.rope_base);
    add_child("indexer", *indexer_);
}

Tensor SelfAttention::operator()(const Tensor& x, AttentionStage stage, bool with_indexer_loss,
                                 AttentionTrace& trace, AttentionCache* cache) const {
    const int64_t position = cache ? cache->length() : 0;
    const TimedPart part(step_part::projections);
    const AttentionHeads heads = projections_->heads(x, position);
    trace.q = heads.q;
    trace.k = heads.k;
    trace.v = heads.v;
    trace.scale = projections_->scale();
    if (indexer_) {
        const TimedPart indexer_part(step_part::indexer_projections);
        trace.indexer = (*indexer_)(x, indexer_reads_latent_ ? heads.q_latent : x, position);
    }
    if (cache)
        cache->append(trace.k, trace.v,
                      indexer_ ? rounded_keys(trace.indexer.k, indexer_->config().precision) : RoundedKeys{});
    return w_o_(projections_->values(position > 0 ? attend_to_cache(stage, trace, *cache)
                                                  : attend(stage, with_indexer_loss, trace)));
}

Tensor SelfAttention::attend_to_cache(AttentionStage stage, AttentionTrace& t,
                                      const AttentionCache& cache) const {
    const bool select = indexer_ && stage == AttentionStage::sparse;
    if (select) {
        const IndexerConfig& config = indexer_->config();
        const RoundedQueries rounded = rounded_queries(t.indexer.q, t.indexer.w, config.precision);
        t.selection = decode_select(rounded.q, cache.indexer_panels(), rounded.w, cache.length(),
                                    config.scale, config.top_k, cache.indexer_key_scales());
    }
    const AttentionOutput attention =
        decode_attention(t.q, cache.k(), cache.v(), cache.length(), t.scale, select ? &t.selection : nullptr);
    t.lse = attention.lse;
    return attention.out;
}

AttentionOutput SelfAttention::attend_densely(const AttentionTrace& t) const {
    return materialised_ ? AttentionOutput{materialised_attention(t.q, t.k, t.v, t.scale), {}}
                         : dense_attention(t.q, t.k, t.v, t.scale);
}

Tensor SelfAttention::alignment_loss(AttentionStage stage, const AttentionTrace& t,
                                     const SelectedWeights& weights) const {
    const TimedPart part(step_part::alignment_loss);
    const double scale = indexer_->config().scale;
    if (stage == AttentionStage::dense)
        return indexer_kl_dense(t.indexer.q, t.indexer.k, t.indexer.w, scale, t.q, t.k, t.lse, t.scale);
    return indexer_kl_sparse(t.indexer.q, t.indexer.k, t.indexer.w, scale, t.q, t.k, t.lse, t.scale,
                             t.selection, weights);
}

Tensor SelfAttention::attend(AttentionStage stage, bool with_indexer_loss, AttentionTrace& t) const {
    const bool select = indexer_ && stage == AttentionStage::sparse;
    if (select) {
        const TimedPart part(step_part::selection);
        t.selection = select_keys(t.indexer, indexer_->config());
    }
    const TimedPart part(step_part::attention);
    SelectedWeights weights;
    const AttentionOutput attention =
        select ? sparse_attention(t.q, t.k, t.v, t.selection, t.scale, SparseMethod::automatic,
                                  with_indexer_loss ? &weights : nullptr)
               : attend_densely(t);
    t.lse = attention.lse;
    if (indexer_ && with_indexer_loss) t.indexer_loss = alignment_loss(stage, t, weights);
    return attention.out;
}

}  // namespace sieve
