// How good a selection is, judged by dense attention (evaluation only: records nothing).
//
//   p[t,s]     = (1/H) sum_h softmax_s(attention_scale * q[t,h] . k[s,g(h)])            over all s <= t
//   P_t        = the |S_t| keys with the highest p[t,s], ties towards the lower index
//   recall[t]  = |S_t and P_t| / |S_t|
//   covered[t] = sum_{s in S_t} p[t,s]
//
// Shapes: q [B,H,T,dh], k [B,G,T,dh] (H a multiple of G); float32 or float64.
// Tiled: memory O(T), never T x T.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"
#include "framework/core/tensor.h"

namespace sieve {

// Means over rows. A row that selects all its keys has recall 1 and covered mass 1 by definition and says
// nothing about the indexer; the `_of_choices` means leave such rows out (and are 1 when no other row
// exists).
struct IndexerQuality {
    double recall = 1, covered_mass = 1;
    double recall_of_choices = 1, covered_mass_of_choices = 1;
    int64_t rows = 0, choices = 0;  // all B T rows, and those that left a key out
};

// Throws when shapes, dtypes or devices differ, H is no multiple of G, or (kind diverged, on the CPU alone) a
// probability is NaN. Waits for the device.
IndexerQuality indexer_quality(const MainAttention& attention, const Selection& selection);

}  // namespace sieve
