// Steps of one model, timed one by one: what the programs that measure speed share.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/core/timed_part.h"
#include "framework/train/trainer.h"

namespace sieve {

// Tokens and targets drawn evenly from the vocabulary: batch_size windows of max_seq_len. The same index
// gives the same batch.
Batch random_batch(const ExperimentConfig& config, int64_t index);

using BatchOfStep = std::function<Batch(int64_t)>;

enum class StepKind {
    forward,  // what an evaluation does with a batch: all losses, no gradient
    train,    // a whole training step: forward, backward, clipping, optimiser
};
template <>
inline constexpr auto enum_names<StepKind> =
    std::to_array<NamedValue<StepKind>>({{StepKind::forward, "forward"}, {StepKind::train, "train"}});

struct TimedStep {
    double seconds;  // of the host, which waits for the device
    double loss;     // the language model's
    // The most that this model's tensors held during the step, its parameters and optimiser included.
    int64_t peak_bytes;
    int64_t system_calls;  // allocations that the cache could not serve: 0 in a steady state
};

// A model with its optimiser in the stage that trains the language model (config.model says whether classic
// or sparse), fed with random batches or with given ones.
class TimedModel {
  public:
    TimedModel(const ExperimentConfig& config, Device device, BatchOfStep batch_of = {});

    TimedStep run(StepKind kind);
    // The same step with its time by part. On a CUDA device it runs launch by launch and waits at each change
    // of part; training steps do so from then on.
    std::vector<PartSeconds> run_in_parts(StepKind kind);

    const Transformer& transformer() const { return model_; }
    int64_t state_bytes() const { return state_bytes_; }  // parameters and optimiser state
    int64_t parameter_bytes() const;

  private:
    double forward(const Batch& batch) const;
    double execute(StepKind kind, const Batch& batch);  // returns the loss

    ExperimentConfig config_;
    Device device_;
    BatchOfStep batch_of_;
    int64_t live_before_;  // before the model was made; the order of the members matters
    Transformer model_;
    std::unique_ptr<StageRunner> runner_;
    bool recording_ = true;
    int64_t state_bytes_;
    int64_t own_bytes_;  // what the model holds between steps
    int64_t steps_ = 0;
};

struct TimeSpread {
    double median, fastest, slowest, lower_quartile, upper_quartile;
};
TimeSpread time_spread_of(const std::vector<double>& seconds);  // of at least one step

}  // namespace sieve
