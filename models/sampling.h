// The next token from the logits of a language model.
//
//   p[i] = exp(l[i] / temperature) / sum_j exp(l[j] / temperature)
//   drawn from the fewest most likely tokens whose p sum to at least top_p (nucleus sampling, Holtzman et al.
//   2019), each with its share of their sum
#pragma once

#include <cstdint>

#include "framework/core/tensor.h"

namespace sieve {

struct Sampling {
    double temperature = 0.8;  // 0: the token with the largest logit, of equals the lowest
    double top_p = 0.95;       // in (0, 1]; 1: all tokens
    uint64_t seed = 42;
};

// Throws a usage error that names the value and its range.
void validate(const Sampling& sampling);

// logits [V], float32 or float64. A function of the logits, the settings and `draw`, the number of the draw:
// numbered draws of one seed are independent. Throws (kind diverged) when a logit is NaN.
int32_t sample_token(const Tensor& logits, const Sampling& sampling, uint64_t draw);

}  // namespace sieve
