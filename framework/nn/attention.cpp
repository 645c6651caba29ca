#include "framework/nn/attention.h"

#include "framework/core/error.h"
#include "framework/core/timed_part.h"
#include "framework/nn/materialised_attention.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/decode_attention/decode_attention.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/sparse_attention/sparse_attention.h"

namespace sieve {
namespace {

std::unique_ptr<AttentionProjections> make_projections(const ParameterInit& init,
                                                       const std::string& full_name,
                                                       const AttentionConfig& c) {
    if (c.latent)
        return std::make_unique<LatentProjections>(init, full_name, c.d_model, c.n_heads, *c.latent, c.rope);
    return std::make_unique<GroupedQueryProjections>(init, full_name, c.d_model, c.n_heads, c.n_kv_heads,
                                                     c.rope);
}

}  // namespace

SelfAttention::SelfAttention(const ParameterInit& init, const std::string& full_name,
                             const AttentionConfig& config)
    : selector_reads_latent_(config.selector_reads_latent()),
      materialised_(config.materialised),
      leaks_(config.leaks),
      score_factor_(config.score_factor),
      projections_(make_projections(init, full_name, config)),
      w_o_(init, full_name + ".w_o", projections_->out_width(), config.d_model,
           config.latent && config.latent->bias ? Bias::yes : Bias::no) {
    add_child("", *projections_);
    add_child("w_o", w_o_);
    if (!config.selector) return;
    if (materialised_) fail("attention: materialised attention has no selector");
    selector_ = selector_kind(config.selector->kind)
                    .make(init,
                          {.full_name = full_name + ".indexer",
                           .d_model = config.d_model,
                           .q_width = selector_reads_latent_ ? config.latent->q_rank : config.d_model,
                           .rope = config.rope},
                          *config.selector);
    add_child("indexer", *selector_);
}

Tensor SelfAttention::operator()(const Tensor& x, AttentionStage stage, std::optional<SelectorLoss> loss,
                                 AttentionTrace& trace, AttentionCache* cache) const {
    const int64_t position = cache ? cache->length() : 0;
    const TimedPart part(step_part::projections);
    const AttentionHeads heads = projections_->heads(x, position);
    trace.q = heads.q;
    trace.k = heads.k;
    trace.v = heads.v;
    trace.scale = projections_->scale() * score_factor_;
    if (cache) cache->append(trace.k, trace.v);
    if (selector_) {
        const TimedPart selector_part(step_part::indexer_projections);
        trace.selector = selector_.get();
        trace.selector_state = selector_->project({.x = x,
                                                   .q_source = selector_reads_latent_ ? heads.q_latent : x,
                                                   .attention = trace.main_attention(),
                                                   .first_position = position});
        if (cache) cache->append(*selector_, *trace.selector_state);
    }
    return w_o_(projections_->values(position > 0 ? attend_to_cache(stage, trace, *cache)
                                                  : attend(stage, loss, trace)));
}

Tensor SelfAttention::attend_to_cache(AttentionStage stage, AttentionTrace& t,
                                      const AttentionCache& cache) const {
    const bool select = t.selector && stage == AttentionStage::sparse;
    if (select && selector_) t.selection = cache.select_next(*selector_, *t.selector_state);
    return decode_attention(t.q, cache.k(), cache.v(), cache.length(), t.scale,
                            select ? &t.selection : nullptr)
        .out;
}

Tensor SelfAttention::attend_densely(const AttentionTrace& t) const {
    return materialised_ ? materialised_attention(t.q, t.k, t.v, t.scale)
                         : dense_attention(t.q, t.k, t.v, t.scale).out;
}

// weights: kept when it is given and there is something to keep.
Tensor SelfAttention::attend_to_selection(const AttentionTrace& t, SelectedWeights* weights) const {
    if (leaks_) return leaking_attention(t.q, t.k, t.v, t.selection, t.scale);
    return sparse_attention(t.q, t.k, t.v, t.selection, t.scale, SparseMethod::automatic, weights).out;
}

namespace {

// `read`: the keys that attention reads; null: all earlier ones.
Tensor selector_loss(SelectorLoss loss, const AttentionTrace& t, const Selection* read,
                     const SelectedWeights& weights) {
    if (loss == SelectorLoss::entropy) return t.selector->entropy_loss(*t.selector_state);
    if (loss == SelectorLoss::full_alignment) read = nullptr;
    return t.selector->alignment_loss(*t.selector_state, t.main_attention(), read, weights);
}

}  // namespace

Tensor SelfAttention::attend(AttentionStage stage, std::optional<SelectorLoss> loss,
                             AttentionTrace& t) const {
    const bool select = t.selector && stage == AttentionStage::sparse;
    if (select && selector_) {
        const TimedPart part(step_part::selection);
        t.selection = t.select();
    }
    const TimedPart part(step_part::attention);
    SelectedWeights weights;
    const Tensor out = select ? attend_to_selection(t, loss == SelectorLoss::alignment ? &weights : nullptr)
                              : attend_densely(t);
    if (t.selector && loss) {
        const TimedPart loss_part(step_part::alignment_loss);
        t.indexer_loss = selector_loss(*loss, t, select ? &t.selection : nullptr, weights);
    }
    return out;
}

}  // namespace sieve
