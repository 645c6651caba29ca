// Private to this room.
// The keys that the layer's own attention looks at most, all heads together (ops/attention_select): the
// selection that an indexer is trained towards, and the best that one can make by these probabilities. It
// costs what dense attention costs: a yardstick, not a way to save work.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_oracle(const ParameterInit& init, const SelectorPlace& place,
                                      const SelectorConfig& config);

}  // namespace sieve
