// How many selected keys were interchangeable for the indexer.
#pragma once

#include "framework/attention/scores/indexer_operands.h"
#include "framework/attention/selection/selection.h"

namespace sieve {

// The share of selected keys whose score is exactly that of another key which the same query selected, over
// the queries t that have a choice (more keys than slots); NaN when none has. Scores are computed on the
// host, in the operands' dtype: an indexer_precision that rounds ties more keys than this says. Throws unless
// the selection is of the operands' [B,T].
double tied_share(const IndexerOperands& indexer, const Selection& selection);

}  // namespace sieve
