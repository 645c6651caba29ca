// Private to this room.
// The last k tokens, the query's own among them: a sliding window.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_recent(const ParameterInit& init, const SelectorPlace& place,
                                      const SelectorConfig& config);

}  // namespace sieve
