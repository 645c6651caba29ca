// Private to this room.
// What selectors share that have a lightning indexer (DeepSeek-V3.2-Exp, section 2.1): its parameters, its
// operands, and the alignment loss that trains it towards the main attention, token by token however the keys
// are chosen.
#pragma once

#include "framework/nn/layers.h"
#include "framework/nn/selector.h"
#include "framework/ops/rope/rope.h"

namespace sieve {

class LightningIndexer : public Selector {
  public:
    LightningIndexer(const ParameterInit& init, const SelectorPlace& place, const IndexerConfig& config);

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override;
    Tensor alignment_loss(const SelectorState& state, const MainAttention& attention,
                          const Selection* selection, const SelectedWeights& weights) const override;
    Tensor entropy_loss(const SelectorState& state) const override;
    const IndexerOperands* indexer_operands(const SelectorState& state) const override;

  protected:
    static const IndexerOperands& operands_of(const SelectorState& state);

  private:
    IndexerConfig config_;
    RopeConfig rope_;
    Linear q_proj_, k_proj_;
    std::unique_ptr<Linear> w_proj_;     // null: every weight is 1
    std::unique_ptr<LayerNorm> k_norm_;  // deepseek only
};

}  // namespace sieve
