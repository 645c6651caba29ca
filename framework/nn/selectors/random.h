// Private to this room.
// Keys by lot: what a selection is worth that knows nothing at all.
//
//   S_t = the min(k, t + 1) keys s <= t that come first by (r[t,s] descending, s ascending)
//   r[t,s] = the first number of block 2^32 t + s of the Philox stream (seed, layer)
//
// Each query of each layer draws others; a forward or a decoder that asks again is given the same.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_random(const ParameterInit& init, const SelectorPlace& place,
                                      const SelectorConfig& config);

}  // namespace sieve
