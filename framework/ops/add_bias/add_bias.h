// One vector added to every row.
//
//   y[i,j] = x[i,j] + b[j]        dx = dy,    db[j] = sum over i of dy[i,j]
//
// Saves nothing. On the CPU db is added up in fixed chunks of rows, on CUDA in float64: in both the bits depend
// neither on the number of threads nor on the run.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// x [...,n], bias [n], both float32 or both float64 -> the shape of x. Throws when n is 0, and when shapes,
// dtypes or devices differ.
Tensor add_bias(const Tensor& x, const Tensor& bias);

}  // namespace sieve
