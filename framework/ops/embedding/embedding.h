// Embedding lookup:  y[i,:] = W[tokens[i],:]         dW[v,:] = sum over i with tokens[i] = v of dy[i,:]
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// tokens int32 [...], weight [V,d] -> [...,d]. A token outside [0, V) is an error that names it and its
// place; on CUDA tokens are not looked at before the kernel runs, and such a token's row of y is NaN.
// Positions are added up in ascending order: dW has the same bits for any number of threads, and on CUDA.
Tensor embedding(const Tensor& tokens, const Tensor& weight);

}  // namespace sieve
