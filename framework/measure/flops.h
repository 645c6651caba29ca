// Floating point operations of a training step, counted from the formulas (a multiply-add is two).
#pragma once

#include <cstdint>
#include <string_view>

#include "models/config.h"

namespace sieve {

struct StepFlops {
    double projections = 0;  // into and out of attention
    double attention = 0;    // causal: entries above the diagonal are not counted
    double indexer_projections = 0;
    double selection = 0;  // scores that rank keys
    double alignment_loss = 0;
    double experts = 0;  // router gate, selected and shared experts
    double head = 0;     // logits
    // Newton-Schulz iterations of Muon (symmetric products counted once per pair), as the CPU computes them in
    // float32; at bf16 matrices that are not square take about a ninth more (optim/muon.h).
    double optimizer = 0;
    double indexer() const { return indexer_projections + selection + alignment_loss; }
    double model() const { return projections + attention + indexer() + experts + head; }
    double total() const { return model() + optimizer; }
};

// One training step (forward and backward) of batch_size windows of seq_len tokens.
StepFlops training_step_flops(const ModelConfig& config, int64_t batch_size, int64_t seq_len);
// The forward alone, with the losses and without gradients: a step of an evaluation.
StepFlops forward_flops(const ModelConfig& config, int64_t batch_size, int64_t seq_len);
// By the names of nn/step_parts.h; 0 for the parts that are not counted.
double flops_of_part(const StepFlops& flops, std::string_view part);

}  // namespace sieve
