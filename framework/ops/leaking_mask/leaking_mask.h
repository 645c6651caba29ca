// Hides from attention scores, in place, the keys that the original experiment's selector leaves out. That selector
// fills the scores of the future with -1e9 and then takes exactly `slots` keys for every row: one that has fewer
// allowed keys takes later ones as well, the lowest index first among their ties, and reads them all.
//
//   z[b,..,t,s] = -inf  unless s is in S_t, or t + 1 < slots and s < slots
//
// For scores that softmax reads next: it gives the masked entries probability 0 and gradient 0 exactly, so no
// node is recorded here. Nothing but the leak itself may be computed with it (models/config.h, `leaks`).
#pragma once

#include "framework/attention/selection/selection.h"

namespace sieve {

// scores [B, R*T, T], T >= 1: row r belongs to query r mod T; selection: of T queries, min(slots, t + 1) keys
// each. Throws unless the rows are a multiple of T, and for a selection as sparse_attention does.
void leaking_mask(const Tensor& scores, const Selection& selection);

}  // namespace sieve
