// Private to this room.
// The lightning indexer as a selector (DeepSeek-V3.2-Exp, section 2.1): it scores all earlier tokens, the top
// k are selected, and the alignment loss trains it towards the main attention. With config.indexer.pool > 1
// it scores blocks of so many tokens (pooled_indexer.h).
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_indexer(const ParameterInit& init, const SelectorPlace& place,
                                       const SelectorConfig& config);

}  // namespace sieve
