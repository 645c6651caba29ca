// What attention returns, over all keys or over selected ones.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

struct AttentionOutput {
    Tensor out;  // [B,T,H*dv]
    Tensor lse;  // [B,H,T], carries no gradient; -inf for a row without keys
};

}  // namespace sieve
