// Private to this room.
// The first tokens of the text, its attention sinks, and the last ones (StreamingLLM: Xiao et al., "Efficient
// Streaming Language Models with Attention Sinks", 2023, section 3.2). Of the k keys min(sinks, k - 1) are
// the first tokens; the query's own is always among the others.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_sink_recent(const ParameterInit& init, const SelectorPlace& place,
                                           const SelectorConfig& config);

}  // namespace sieve
