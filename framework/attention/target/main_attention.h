// The main attention of a layer as the indexer is trained towards it and judged by it.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// p[t,s] = (1/H) sum_h softmax_s(scale * q[t,h] . k[s,g(h)]), where head h reads key head g(h) = h / (H/G);
// all float32 or all float64, on one device. Read detached: no gradient goes into it.
//
// Maximum and sum of each softmax are made anew from the very products that p is made of. The log-sum-exp
// that attention returns would not do: it is rounded, and so are the products, in another order of the sums,
// which together makes p wrong by a factor e^(1e-7 |z|).
struct MainAttention {
    Tensor q;  // [B,H,T,dh]
    Tensor k;  // [B,G,T,dh], H a multiple of G
    double scale = 1;
};

}  // namespace sieve
