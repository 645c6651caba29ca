// How much of one selection another one finds, and what a selection repeats: shares meaned over the queries t
// that have a choice (more keys than slots). Computed on the host, from selections on any device.
#pragma once

#include "framework/attention/selection/selection.h"

namespace sieve {

// The share of the reference's keys that `other` selects too, over the queries that have a choice in `other`;
// NaN when none has. Throws unless both are of one [B,T].
double selection_recall(const Selection& reference, const Selection& other);

// What as many random keys of each query would have, |S_t| / (t + 1): in the recall of any reference, in
// successive_recall and in first_key_share.
double chance_recall(const Selection& selection);

// The share of the keys of query t - 1 that query t selects too.
double successive_recall(const Selection& selection);

// The share of queries that select key 0.
double first_key_share(const Selection& selection);

}  // namespace sieve
