// The one training loop. A variant is trained in stages (classic: one; sparse: indexer warm-up, then sparse
// training); every stage is the same loop with another loss, schedule and set of parameters.
//
// All randomness of a step is a function of (seed, stage, step): a run that is resumed from a checkpoint
// continues with the same bits as one that was never stopped.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "framework/program/config.h"
#include "framework/program/interrupt.h"
#include "framework/program/progress.h"
#include "framework/train/metrics.h"
#include "models/transformer.h"

namespace sieve {

class HybridOptimizer;
class AdamW;
class RecordedStep;
class FiniteWatch;
struct StepOutputs;
struct StepValues;

enum class StageKind { classic, warmup, sparse };
template <>
inline constexpr auto enum_names<StageKind> = std::to_array<NamedValue<StageKind>>(
    {{StageKind::classic, "classic"}, {StageKind::warmup, "warm-up"}, {StageKind::sparse, "sparse"}});

struct Stage {
    StageKind kind;
    int64_t steps;
    double peak_learning_rate;
    bool trial =
        false;  // its steps are only timed: at the rate 0, so that none of them can diverge by training
    std::optional<double> indexer_learning_rate = {};  // peak, in the sparse stage; none: as the main model's
};

// The configuration key that says how many steps a stage has.
const char* steps_key(StageKind kind);

// One training step of one stage, and the parameters and optimiser that belong to it.
class StageRunner {
  public:
    // `record` false: on a CUDA device every step runs launch by launch, so that its parts can be timed.
    StageRunner(const ExperimentConfig& config, const Transformer& model, Stage stage, bool record = true);
    ~StageRunner();

    struct StepResult {
        double loss, grad_norm, learning_rate;
    };
    // Throws Error(diverged) when the loss or a gradient is not finite, and names the first number that is
    // not; the parameters are then as before the step. So they are after any other error (on a CUDA device:
    // out of memory alone), and the same step may be tried again.
    StepResult step(int64_t index, const Batch& batch);

    NamedTensors optimizer_state() const;
    void load_optimizer_state(const NamedTensors& state);
    const Stage& stage() const { return stage_; }

  private:
    struct Losses {
        Tensor total;                     // what is differentiated
        Tensor reported;                  // the language model's, or the indexer's in the warm-up
        std::vector<Tensor> assignments;  // by layer: see MixtureOfExpertsOutput; none in the warm-up
    };
    // `watch`, when given, sees what the forward and the losses are made of.
    Losses losses_of(Generator& rng, const Tensor& tokens, const Tensor& targets,
                     FiniteWatch* watch = nullptr) const;
    double learning_rate(int64_t index) const;  // of what the stage trains first: the indexer in the warm-up
    void prepare_optimizers(int64_t index);
    std::function<void()> plan_update(const Tensor& guard);
    // Scales the gradients and returns the norm that is reported: float64 scalars on the model's device.
    // `guard` is finite only when all norms are.
    struct Norms {
        Tensor reported, guard;
    };
    Norms clip() const;
    Generator generator_of(int64_t index) const;
    [[noreturn]] void fail_diverged(int64_t index, const Batch& batch, const std::string& numbers) const;
    std::string first_non_finite_of(int64_t index, const Batch& batch) const;
    StepOutputs run_step(Generator rng, const Tensor& tokens, const Tensor& targets);
    bool may_update(const Tensor& guard) const;
    StepValues values_of(int64_t index, const Batch& batch);
    StepValues values_on_cuda(int64_t index, const Batch& batch);
    bool warms_up() const { return stage_.kind == StageKind::warmup; }

    const ExperimentConfig& config_;
    const Transformer& model_;
    Stage stage_;
    bool may_record_;
    bool updating_ = false;  // true after a step: an update failed halfway
    NamedTensors main_, indexer_;
    // The indexer has a learning rate of its own, and in the warm-up also another optimiser.
    std::unique_ptr<AdamW> warmup_optimizer_;
    std::unique_ptr<HybridOptimizer> main_optimizer_, indexer_optimizer_;  // in every other stage
    std::unique_ptr<RecordedStep> recorded_;  // on a CUDA device, from the first step on
};

// The stages of config.model's variant.
std::vector<Stage> stages_of(const ExperimentConfig& config);
Stage trial_of(const Stage& stage);

// Median seconds of one step of `stage`, measured by trial steps of a throwaway model of the configuration.
double measure_step_seconds(const ExperimentConfig& config, const Stage& stage, const Dataset& data,
                            Device device);

enum class TrainingOutcome { finished, interrupted };

struct TrainingRun {
    const ExperimentConfig& config;  // config.model.attention says which variant
    const Dataset& data;
    const Transformer& model;
    std::string folder;              // where checkpoints and the logs (metrics_log.h) go
    std::string resume_from = {};    // the folder whose checkpoint and logs to go on from; empty: none
    std::string manifest_json = {};  // for best_model.pt
    double seconds_after = 0;        // estimate of what follows this run, for the ETA
    std::vector<double> estimated_step_seconds;  // per stage
    bool quiet = false;                          // print nothing
    // Asked after each step: whether to save and stop.
    std::function<bool()> stop_wanted = [] { return interrupted() != 0; };
};

// Trains through all stages. Checkpoints are written every config.checkpoint_every steps, before each
// evaluation and at the end. On an interrupt one is saved, and train returns. best_model.pt in the folder is
// the model with the lowest validation loss. Throws Error(diverged) when a loss, a gradient, or a weight that
// would be saved is not finite.
TrainingOutcome train(const TrainingRun& run, TrainingHistory& history);

}  // namespace sieve
