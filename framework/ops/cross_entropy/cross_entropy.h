// Mean cross entropy, fused with log-softmax; probabilities are never stored.
//
//   m[n]       = max_v logits[n,v],   l[n] = log sum_v exp(logits[n,v] - m[n])
//   loss       = mean_n ((m[n] - logits[n, target[n]]) + l[n])
//   dlogits    = (exp((logits[n,v] - m[n]) - l[n]) - [v = target[n]]) * dloss / N
//
// Saves logits, m and l (two numbers a row: their sum would be rounded by as much as matters beside large
// logits). The losses of the rows are added up in float64.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// logits [N,V], targets int32 [N], N >= 1 -> scalar. A target outside [0, V) is an error that names it; on
// CUDA targets are not looked at before the kernel runs, and such a row's loss is NaN.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);

// For evaluation; records nothing. Waits for the device.
struct TokenPredictions {
    double total_loss = 0;  // sum over rows, in nats
    int64_t correct = 0;    // rows whose highest logit is the target's; of equal ones the lowest index counts
    Tensor losses;          // [N] of the logits' dtype and device: each row's loss
};
TokenPredictions score_predictions(const Tensor& logits, const Tensor& targets);

}  // namespace sieve
