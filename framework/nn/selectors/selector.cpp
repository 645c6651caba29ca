#include "framework/nn/selector.h"

namespace sieve {

Tensor Selector::alignment_loss(const SelectorState&, const MainAttention&, const Selection*,
                                const SelectedWeights&) const {
    return {};
}

Tensor Selector::entropy_loss(const SelectorState&) const {
    return {};
}

std::optional<Selection> Selector::select_unrounded(const SelectorState&) const {
    return std::nullopt;
}

const IndexerOperands* Selector::indexer_operands(const SelectorState&) const {
    return nullptr;
}

}  // namespace sieve
