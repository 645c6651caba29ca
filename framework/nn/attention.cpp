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

double SelfAttention::score_scale() const {
    return projections_->scale() * score_factor_;
}

Tensor SelfAttention::operator()(const Tensor& x, AttentionStage stage, std::optional<SelectorLoss> loss,
                                 AttentionTrace& trace, AttentionCache* cache) const {
    const int64_t position = cache ? cache->length() : 0;
    const TimedPart part(step_part::projections);
    const AttentionHeads heads = projections_->heads(x, {.first = position});
    trace.q = heads.q;
    trace.k = heads.k;
    trace.v = heads.v;
    trace.scale = score_scale();
    if (cache) cache->append(trace.k, trace.v);
    project_selector(x, heads.q_latent, position, trace, cache);
    return w_o_(projections_->values(position > 0 ? attend_to_cache(stage, trace, *cache)
                                                  : attend(stage, loss, trace)));
}

void SelfAttention::project_selector(const Tensor& x, const Tensor& q_latent, int64_t position,
                                     AttentionTrace& trace, AttentionCache* cache) const {
    if (!selector_) return;
    const TimedPart part(step_part::indexer_projections);
    trace.selector = selector_.get();
    trace.selector_state = selector_->project({.x = x,
                                               .q_source = selector_reads_latent_ ? q_latent : x,
                                               .attention = trace.main_attention(),
                                               .first_position = position});
    if (cache) cache->append(*selector_, *trace.selector_state);
}

namespace {

// Token t of x [1,H,T,w]: [1,H,1,w].
Tensor token_of_heads(const Tensor& x, int64_t t) {
    const int64_t H = x.dim(1), T = x.dim(2), w = x.dim(3);
    const Tensor token = Tensor::empty({1, H, 1, w}, x.dtype());
    const Tensor rows = x.alias({H * T, w}), to = token.alias({H, w});
    for (int64_t h = 0; h < H; ++h) to.rows(h, h + 1).copy_from(rows.rows(h * T + t, h * T + t + 1));
    return token;
}

// Token t of x [1,T,w]: [1,1,w], the same elements. Undefined of an undefined x.
Tensor token_of(const Tensor& x, int64_t t) {
    return x.defined() ? x.alias({x.dim(1), 1, x.dim(2)}).rows(t, t + 1) : x;
}

}  // namespace

Tensor SelfAttention::next_of_each(const Tensor& x, AttentionStage stage,
                                   const std::vector<AttentionCache*>& caches,
                                   std::vector<LayerSelection>& selections) const {
    Positions positions;
    for (const AttentionCache* cache : caches) positions.each.push_back(cache->length());
    const AttentionHeads heads = projections_->heads(x, positions);
    std::vector<Tensor> attended;
    for (size_t i = 0; i < caches.size(); ++i) {
        const auto t = static_cast<int64_t>(i);
        AttentionTrace trace;
        static_cast<LayerSelection&>(trace) = selections[i];
        trace.q = token_of_heads(heads.q, t);
        trace.k = token_of_heads(heads.k, t);
        trace.v = token_of_heads(heads.v, t);
        trace.scale = score_scale();
        caches[i]->append(trace.k, trace.v);
        project_selector(token_of(x, t), token_of(heads.q_latent, t), positions.each[i], trace, caches[i]);
        attended.push_back(attend_to_cache(stage, trace, *caches[i]));
        selections[i] = trace;
    }
    const int64_t S = x.dim(1), width = attended.front().dim(2);
    const Tensor all = Tensor::empty({1, S, width}, x.dtype());
    for (int64_t i = 0; i < S; ++i)
        all.alias({S, 1, width}).rows(i, i + 1).copy_from(attended[static_cast<size_t>(i)]);
    return w_o_(projections_->values(all));
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
