// Attention the slow and obvious way, in double, with every score in memory: the oracle of dense and sparse
// attention.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/core/tensor.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "tests/support/precision_scope.h"

namespace sieve::testing {

struct AttentionCase {
    int64_t B, H, G, T, dim, value_dim;
};
std::string name_of(const AttentionCase& c);

struct AttentionInputs {
    Tensor q, k, v, dout;
};
AttentionInputs attention_inputs(const AttentionCase& c, DType dtype = DType::float64, Device device = {});

struct AttentionGradients {
    Tensor out, lse, dq, dk, dv;  // shapes as in dense_attention.h, float64
};

// Forward and backward of `attend` on copies of the inputs.
using Attend = std::function<AttentionOutput(const Tensor& q, const Tensor& k, const Tensor& v)>;
AttentionGradients run_attention(const AttentionInputs& in, const Attend& attend);

// Below, results may lie on any device.
void check_close(const AttentionGradients& got, const AttentionGradients& want, double tolerance);
// Normalised squared errors of out, dq, dk and dv; lse within 10 sqrt(tolerance).
void check_nmse(const AttentionGradients& got, const AttentionGradients& want, double tolerance);
bool bit_identical(const AttentionGradients& a, const AttentionGradients& b);

// How products of float32 are rounded on a CUDA device, and what normalised squared error that may cost.
struct PrecisionCase {
    Precision precision;
    double nmse;
};
// fp32, and on CUDA devices tf32 and bf16.
std::vector<PrecisionCase> precisions_of(Device device);

// x [.., n, ..] cut to the first `length` along `axis`, on x's device.
Tensor first_along(const Tensor& x, int axis, int64_t length);

// attends(b, t, s): whether row t of batch b sees key s. dout [B,T,H*dv].
AttentionGradients attention_oracle(const AttentionInputs& in, double scale,
                                    const std::function<bool(int64_t, int64_t, int64_t)>& attends);

}  // namespace sieve::testing
