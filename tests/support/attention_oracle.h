// Attention the slow and obvious way, in double, with every score in memory: the oracle of dense and sparse
// attention.
#pragma once

#include <functional>
#include <vector>

#include "framework/core/tensor.h"

namespace sieve::testing {

struct AttentionGradients {
    Tensor out, lse, dq, dk, dv;  // shapes as in dense_attention.h, float64
};

// attends(b, t, s): whether row t of batch b sees key s. dout [B,T,H*dv].
AttentionGradients attention_oracle(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& dout,
                                    double scale,
                                    const std::function<bool(int64_t, int64_t, int64_t)>& attends);

}  // namespace sieve::testing
