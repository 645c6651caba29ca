// The main attention of a layer as the indexer is trained towards it and judged by it.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// p[t,s] = (1/H) sum_h exp(scale * q[t,h] . k[s,g(h)] - lse[t,h]), where head h reads key head g(h) = h / (H/G);
// all float32 or all float64, on one device. Read detached: no gradient goes into it.
struct MainAttention {
    Tensor q;    // [B,H,T,dh]
    Tensor k;    // [B,G,T,dh], H a multiple of G
    Tensor lse;  // [B,H,T], of the keys over which p is meant to sum to 1
    double scale = 1;
};

}  // namespace sieve
