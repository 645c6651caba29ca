// How much the heads of one indexer would select alike, each of them alone.
//
//   c[j,s]  = w[t,j] ReLU(q[t,j] . k[s])           head j's part of I[t,s]
//   pi[j,s] = 1 of the keys s <= t above the n-th largest of c[j,.], n = |S_t|;
//             m / (number of ties) of those that equal it, m being the places left for them; 0 of the others
//
//   overlap[i,j] = sum_s pi[i,s] pi[j,s] / n       keys that heads i and j share, were ties broken by lot
//   most[i,j]    = sqrt(sum_s pi[i,s]^2 sum_s pi[j,s]^2) / n     that of heads which agree; 1 without ties
//   chance       = n / (t + 1)                     that of a head with any other that knows nothing of it
//
// Ties are a matter of course (every key whose product ReLU cuts off has c = 0, and a head with a negative w
// ranks those first), and broken towards the lower index, as a selection does, they would make heads alike
// that say nothing: a head all of whose keys tie has an overlap of chance, not of 1, with every other.
#pragma once

#include <cmath>

#include "framework/attention/scores/indexer_operands.h"
#include "framework/attention/selection/selection.h"

namespace sieve {

// Of means over the pairs of heads (`overlap`) or the heads (`decided`), and over the queries that have a
// choice (more keys than slots). NaN when there is no such query or only one head.
struct HeadOverlap {
    // (overlap - chance) / (most - chance): 0 for heads that have nothing to do with each other, 1 for heads
    // that would select the same keys, negative for heads that avoid each other's. NaN too where no head
    // prefers any key.
    double above_chance = NAN;
    // (most[j,j] - chance) / (1 - chance): how far its own scores decide what a head selects. 1 without ties,
    // 0 where all keys tie.
    double decided = NAN;
};

// Computed on the host, in the operands' dtype: O(B T^2 HI dI) products in tiles, memory O(T). Both are NaN
// where a product is. Throws unless the selection is of the operands' [B,T].
HeadOverlap head_overlap(const IndexerOperands& indexer, const Selection& selection);

}  // namespace sieve
