// How much of one selection another one finds.
#pragma once

#include "framework/attention/selection/selection.h"

namespace sieve {

// The share of the reference's keys that the other selection has too, meaned over the queries that have a
// choice (more keys than slots); 1 when none has. Both are of one shape, on any device.
double selection_recall(const Selection& reference, const Selection& other);

}  // namespace sieve
