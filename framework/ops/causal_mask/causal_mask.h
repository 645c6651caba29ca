// Hides the future from attention scores, in place:
//
//   z[..,t,s] = -inf for s > t
//
// For scores that softmax reads next: it gives the masked entries probability 0 and gradient 0 exactly, so no
// node is recorded here.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// scores [..., R*T, T]: row r belongs to query r mod T. Throws unless the rows are a multiple of T.
void mask_future(const Tensor& scores);

}  // namespace sieve
