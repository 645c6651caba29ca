#include "framework/nn/selectors/lightning_indexer.h"

#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/reshape/reshape.h"

namespace sieve {
namespace {

struct IndexerState : SelectorState {
    explicit IndexerState(IndexerOperands all) : operands(std::move(all)) {}
    IndexerOperands operands;
};

}  // namespace

LightningIndexer::LightningIndexer(const ParameterInit& init, const SelectorPlace& place,
                                   const IndexerConfig& config)
    : config_(config),
      rope_{.layout = config_.rope_layout, .rotary_dims = config_.rope_dim, .angles = place.rope},
      q_proj_(init, place.full_name + ".q_proj", place.q_width, config_.heads * config_.dim),
      k_proj_(init, place.full_name + ".k_proj", place.d_model, config_.dim) {
    add_child("q_proj", q_proj_);
    add_child("k_proj", k_proj_);
    if (config_.weights) {
        w_proj_ = std::make_unique<Linear>(init, place.full_name + ".w_proj", place.d_model, config_.heads);
        add_child("w_proj", *w_proj_);
    }
    if (config_.kind != IndexerKind::deepseek) return;
    k_norm_ = std::make_unique<LayerNorm>(init, config_.dim, 1e-6);
    add_child("k_norm", *k_norm_);
}

std::shared_ptr<const SelectorState> LightningIndexer::project(const SelectorInput& input) const {
    const int64_t B = input.x.dim(0), T = input.x.dim(1);
    const Tensor x = input.x.detach();
    Tensor q = reshape(q_proj_(input.q_source.detach()), {B, T, config_.heads, config_.dim});
    Tensor k = k_proj_(x);
    if (config_.kind == IndexerKind::deepseek) {
        const RopeConfig rotation = rope_.at({.first = input.first_position});
        k = reshape((*k_norm_)(k), {B, T, 1, config_.dim});
        q = rope(q, rotation);
        k = reshape(rope(k, rotation), {B, T, config_.dim});
    }
    const Tensor w = w_proj_ ? (*w_proj_)(x) : Tensor::full({B, T, config_.heads}, 1, x.dtype(), x.device());
    return std::make_shared<IndexerState>(IndexerOperands{q, k, w, config_.scale});
}

Tensor LightningIndexer::alignment_loss(const SelectorState& state, const MainAttention& attention,
                                        const Selection* selection, const SelectedWeights& weights) const {
    const IndexerOperands& operands = operands_of(state);
    return selection ? indexer_kl_sparse(operands, attention, *selection, weights)
                     : indexer_kl_dense(operands, attention);
}

Tensor LightningIndexer::entropy_loss(const SelectorState& state) const {
    return indexer_negentropy(operands_of(state));
}

const IndexerOperands* LightningIndexer::indexer_operands(const SelectorState& state) const {
    return &operands_of(state);
}

const IndexerOperands& LightningIndexer::operands_of(const SelectorState& state) {
    return static_cast<const IndexerState&>(state).operands;
}

}  // namespace sieve
