// Which keys each query attends to: the result of the top-k selection, read by sparse attention and its
// losses.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// Row (b,t) selected the keys indices[b,t,0..counts[b,t]), ascending, each in [0, t]. Slots at and beyond the
// count hold 0 and mean nothing. slots = min(k, T). No gradient flows through a selection.
struct Selection {
    Tensor indices;  // int32 [B,T,slots]
    Tensor counts;   // int32 [B,T], counts[b,t] = min(k, t + 1)
};

// What sparse attention may keep for the alignment loss, which would otherwise compute it again: the sums
// over heads of the probabilities of a row's selected keys.
struct SelectedWeights {
    Tensor sums;            // [B,T,slots] as the selection's indices; undefined when nothing was kept
    int64_t first_row = 0;  // rows before it, and slots beyond a row's count, mean nothing
};

}  // namespace sieve
