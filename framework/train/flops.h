// Floating point operations of a training step, counted from the formulas (a multiply-add is two).
#pragma once

#include <cstdint>

#include "models/config.h"

namespace sieve {

struct StepFlops {
    double projections =
        0;                 // into and out of attention, router gate, selected and shared experts, output head
    double attention = 0;  // causal: entries above the diagonal are not counted
    double indexer = 0;    // projections, scores, alignment loss
    double optimizer = 0;  // Newton-Schulz iterations of Muon (symmetric products counted once per pair)
    double model() const { return projections + attention + indexer; }
    double total() const { return model() + optimizer; }
};

// One training step (forward and backward) of batch_size windows of seq_len tokens.
StepFlops training_step_flops(const ModelConfig& config, int64_t batch_size, int64_t seq_len);

}  // namespace sieve
