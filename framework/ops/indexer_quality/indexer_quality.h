// How good a selection is, judged by dense attention (evaluation only: records nothing).
//
//   p[t,s]     = (1/H) sum_h softmax_s(attention_scale * q[t,h] . k[s,g(h)])            over all s <= t
//   P_t        = the |S_t| keys with the highest p[t,s], ties towards the lower index
//   recall[t]  = |S_t and P_t| / |S_t|
//   covered[t] = sum_{s in S_t} p[t,s]
//   oracle[t]  = sum_{s in P_t} p[t,s]                 the most that so many keys can cover; its recall is 1
//   chance[t]  = |S_t| / (t + 1)                       recall and covered mass expected of |S_t| random keys
//   entropy[t] = -sum_{s <= t} p[t,s] log p[t,s]       nats, of the mean over heads; log(t + 1): uniform
//
// Shapes: q [B,H,T,dh], k [B,G,T,dh] (H a multiple of G); float32 or float64.
// Tiled: memory O(T), never T x T.
#pragma once

#include <cmath>

#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"
#include "framework/core/tensor.h"

namespace sieve {

// Means over rows. A row that selects all its keys has 1 in recall, mass and chance by definition and says
// nothing about the indexer; the `_of_choices` means leave such rows out, and are NaN when no other row
// exists.
struct IndexerQuality {
    double recall = 1, covered_mass = 1, oracle_mass = 1, chance = 1;
    double entropy = 0;
    double recall_of_choices = NAN, covered_mass_of_choices = NAN;
    double oracle_mass_of_choices = NAN, chance_of_choices = NAN;
    int64_t rows = 0, choices = 0;  // all B T rows, and those that left a key out

    // (value - chance) / (oracle - chance) of these means: 0 for random keys, 1 for the best ones, negative
    // for worse than random. NaN when no row has a choice, and for mass when attention is uniform.
    double recall_above_chance() const;
    double mass_above_chance() const;
};

// Throws when shapes, dtypes or devices differ, H is no multiple of G, or (kind diverged, on the CPU alone) a
// probability is NaN. Waits for the device.
IndexerQuality indexer_quality(const MainAttention& attention, const Selection& selection);

}  // namespace sieve
