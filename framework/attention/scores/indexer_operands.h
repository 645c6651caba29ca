// What the lightning indexer made of a layer's input: the operands of everything that scores keys.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// I[t,s] = scale * sum_j w[t,j] ReLU(q[t,j] . k[s]); all float32 or all float64, on one device.
struct IndexerOperands {
    Tensor q;  // [B,T,HI,dI]
    Tensor k;  // [B,T,dI], one key for all heads
    Tensor w;  // [B,T,HI]
    double scale = 1;
};

}  // namespace sieve
