// How much memory a step will need, before it runs.
#pragma once

#include "framework/measure/step_timing.h"

namespace sieve {

// What a step holds grows with its tokens, for sparse attention with tokens times top k, and for materialised
// attention with the T x T scores. The factors are measured on forwards of one short window. Not exact: a
// little too high as a rule.
class MemoryEstimate {
  public:
    // Makes models of the configuration, and frees them.
    MemoryEstimate(const ExperimentConfig& config, Device device);
    // Of config.batch_size windows of max_seq_len tokens, top sparse_top_k; all else must be as it was given
    // above.
    int64_t bytes(const ExperimentConfig& config, StepKind kind) const;

  private:
    // Bytes that the forward keeps for the backward, and that live for a moment.
    struct PerToken {
        double kept = 0, passing = 0;
    };
    static PerToken measure(const ExperimentConfig& config, Device device);

    double state_bytes_, parameter_bytes_;  // state: parameters and the optimiser's
    PerToken token_, selected_;             // selected: times top k
};

}  // namespace sieve
