#include "framework/nn/selectors/indexer.h"

#include "framework/nn/growing_rows.h"
#include "framework/nn/layers.h"
#include "framework/ops/decode_select/decode_select.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/reshape/reshape.h"
#include "framework/ops/rope/rope.h"

namespace sieve {
namespace {

struct IndexerState : SelectorState {
    explicit IndexerState(IndexerOperands all) : operands(std::move(all)) {}
    IndexerOperands operands;
};

// The keys of a sequence as decode_select reads them.
struct IndexerCache : SelectorCache {
    int64_t length = 0;
    Tensor panels;      // [B,P,dI,keys of a panel]
    Tensor key_scales;  // [B,1,C,1]; undefined unless the precision is int8
};

class Indexer : public Selector {
  public:
    Indexer(const ParameterInit& init, const SelectorPlace& place, const SelectorConfig& config)
        : top_k_(config.top_k),
          config_(config.indexer),
          rope_{.layout = RopeLayout::half_split, .rotary_dims = config_.dim / 2, .base = place.rope_base},
          q_proj_(init, place.full_name + ".q_proj", place.q_width, config_.heads * config_.dim),
          k_proj_(init, place.full_name + ".k_proj", place.d_model, config_.dim),
          w_proj_(init, place.full_name + ".w_proj", place.d_model, config_.heads) {
        add_child("q_proj", q_proj_);
        add_child("k_proj", k_proj_);
        add_child("w_proj", w_proj_);
        if (config_.kind != IndexerKind::deepseek) return;
        k_norm_ = std::make_unique<LayerNorm>(init, config_.dim, 1e-6);
        add_child("k_norm", *k_norm_);
    }

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override {
        const int64_t B = input.x.dim(0), T = input.x.dim(1);
        const Tensor x = input.x.detach();
        Tensor q = reshape(q_proj_(input.q_source.detach()), {B, T, config_.heads, config_.dim});
        Tensor k = k_proj_(x);
        if (config_.kind == IndexerKind::deepseek) {
            const RopeConfig rotation = rope_.starting_at(input.first_position);
            k = reshape((*k_norm_)(k), {B, T, 1, config_.dim});
            q = rope(q, rotation);
            k = reshape(rope(k, rotation), {B, T, config_.dim});
        }
        return std::make_shared<IndexerState>(IndexerOperands{q, k, w_proj_(x), config_.scale});
    }

    Selection select(const SelectorState& state) const override {
        return indexer_select(operands_of(state), top_k_, config_.precision);
    }

    std::unique_ptr<SelectorCache> make_cache() const override { return std::make_unique<IndexerCache>(); }

    void append(const SelectorState& state, SelectorCache& cache) const override {
        auto& held = static_cast<IndexerCache&>(cache);
        const RoundedKeys keys = rounded_keys(operands_of(state).k, config_.precision);
        append_keys(held, keys.k);
        if (const Tensor& scales = keys.scales; scales.defined())
            append_rows("indexer key scales", held.key_scales, held.length,
                        scales.alias({scales.dim(0), 1, scales.dim(1), 1}));
        held.length += keys.k.dim(1);
    }

    Selection select_next(const SelectorState& state, const SelectorCache& cache,
                          int64_t length) const override {
        const auto& held = static_cast<const IndexerCache&>(cache);
        const IndexerOperands& operands = operands_of(state);
        const RoundedQueries query = rounded_queries(operands.q, operands.w, config_.precision);
        const Tensor& scales = held.key_scales;
        return decode_select(
            {.q = query.q, .w = query.w, .scale = config_.scale},
            {.panels = held.panels,
             .length = length,
             .scales = scales.defined() ? scales.alias({scales.dim(0), scales.dim(2)}) : Tensor()},
            top_k_);
    }

    Tensor alignment_loss(const SelectorState& state, const MainAttention& attention,
                          const Selection* selection, const SelectedWeights& weights) const override {
        const IndexerOperands& operands = operands_of(state);
        return selection ? indexer_kl_sparse(operands, attention, *selection, weights)
                         : indexer_kl_dense(operands, attention);
    }

    std::optional<Selection> select_unrounded(const SelectorState& state) const override {
        if (config_.precision == IndexerPrecision::fp32) return std::nullopt;
        return indexer_select(operands_of(state), top_k_);
    }

    const IndexerOperands* indexer_operands(const SelectorState& state) const override {
        return &operands_of(state);
    }

  private:
    static const IndexerOperands& operands_of(const SelectorState& state) {
        return static_cast<const IndexerState&>(state).operands;
    }

    // k [B,n,dI], into panels that grow by whole ones.
    static void append_keys(IndexerCache& held, const Tensor& k) {
        const int64_t each = indexer_panel_keys(k.dtype()), B = k.dim(0), width = k.dim(2);
        if (!held.panels.defined()) held.panels = Tensor::empty({B, 0, width, each}, k.dtype());
        const int64_t needed = (held.length + k.dim(1) + each - 1) / each;
        const Tensor panels = with_room(held.panels.alias({B, held.panels.dim(1), width * each}), needed);
        held.panels = panels.alias({B, panels.dim(1), width, each});
        store_indexer_keys(k, held.panels, held.length);
    }

    int64_t top_k_;
    IndexerConfig config_;
    RopeConfig rope_;
    Linear q_proj_, k_proj_, w_proj_;
    std::unique_ptr<LayerNorm> k_norm_;  // deepseek only
};

}  // namespace

std::unique_ptr<Selector> make_indexer(const ParameterInit& init, const SelectorPlace& place,
                                       const SelectorConfig& config) {
    return std::make_unique<Indexer>(init, place, config);
}

}  // namespace sieve
