#include "framework/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/core_share.h"
#include "framework/core/error.h"
#include "framework/core/timed_part.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/scale/scale.h"
#include "framework/optim/adamw.h"
#include "framework/optim/clip.h"
#include "framework/optim/hybrid.h"
#include "framework/optim/schedule.h"
#include "framework/train/checkpoint.h"
#include "framework/train/evaluate.h"
#include "framework/train/metrics_log.h"
#include "framework/train/non_finite.h"
#include "framework/train/recorded_step.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Disjoint streams: no two (stage, step) pairs share one, and a step uses far fewer than 2^16.
uint64_t first_stream(StageKind kind) {
    return (static_cast<uint64_t>(kind) + 1) << 56;
}
uint64_t stream_offset(int64_t step) {
    return static_cast<uint64_t>(step) << 16;
}

void set_trainable(const NamedTensors& parameters, bool on) {
    for (const NamedTensor& p : parameters) p.tensor.set_requires_grad(on);
}

// Whatever ends a step, the next one begins without gradients.
class GradientsOfOneStep {
  public:
    explicit GradientsOfOneStep(std::initializer_list<const NamedTensors*> groups) : groups_(groups) {}
    ~GradientsOfOneStep() {
        for (const NamedTensors* group : groups_)
            for (const NamedTensor& p : *group) p.tensor.set_grad({});
    }
    GradientsOfOneStep(const GradientsOfOneStep&) = delete;
    GradientsOfOneStep& operator=(const GradientsOfOneStep&) = delete;

  private:
    std::vector<const NamedTensors*> groups_;
};

// How people speak of a stage's steps.
std::string title_of(const Stage& stage) {
    return fmt::format("{}the {} stage", stage.trial ? "trial steps of " : "", name_of(stage.kind));
}

}  // namespace

std::vector<Stage> stages_of(const ExperimentConfig& config) {
    if (!config.model.is_sparse()) return {{StageKind::classic, config.classic_steps, config.learning_rate}};
    double rate = config.sparse_learning_rate;
    if (rate == 0)
        rate = config.sparse_init == SparseInit::classic ? config.learning_rate / 10 : config.learning_rate;
    std::vector<Stage> stages;
    if (config.warmup_steps > 0 && config.model.has_indexer() && !config.indexer_frozen)
        stages.push_back({StageKind::warmup, config.warmup_steps,
                          config.indexer_lr > 0 ? config.indexer_lr : config.warmup_lr});
    stages.push_back({StageKind::sparse, config.sparse_steps, rate});
    if (config.indexer_lr > 0) stages.back().indexer_learning_rate = config.indexer_lr;
    return stages;
}

const char* steps_key(StageKind kind) {
    switch (kind) {
        case StageKind::classic:
            return "classic_steps";
        case StageKind::warmup:
            return "warmup_steps";
        case StageKind::sparse:
            return "sparse_steps";
    }
    return "?";
}

Stage trial_of(const Stage& stage) {
    return {.kind = stage.kind, .steps = stage.steps, .peak_learning_rate = 0, .trial = true};
}

namespace {

// What to change. Fresh weights cannot be the learning rate's fault.
std::string advice_on_divergence(const ExperimentConfig& config, const Stage& stage, int64_t index) {
    const bool sparse = config.model.is_sparse(), first = stage.kind == stages_of(config).front().kind;
    const bool fresh = index == 0 && first && !(sparse && config.sparse_init == SparseInit::classic);
    if (fresh || stage.trial) return fmt::format("lower --init_std (now {:g})", config.model.init_std);
    const char* rate = "--learning_rate";
    if (stage.kind == StageKind::sparse && config.sparse_learning_rate > 0) rate = "--sparse_learning_rate";
    if (stage.kind == StageKind::warmup) rate = config.indexer_lr > 0 ? "--indexer_lr" : "--warmup_lr";
    return fmt::format("lower {} (now {:g}) or --grad_clip (now {:g})", rate, stage.peak_learning_rate,
                       config.grad_clip);
}

}  // namespace

StageRunner::StageRunner(const ExperimentConfig& config, const Transformer& model, Stage stage, bool record)
    : config_(config),
      model_(model),
      stage_(stage),
      may_record_(record),
      main_(model.main_parameters()),
      indexer_(config.indexer_frozen ? NamedTensors() : model.indexer_parameters()) {
    // During warm-up the main model is frozen: it then records no graph and saves no activations. So it is
    // with a frozen indexer.
    set_trainable(main_, !warms_up());
    set_trainable(model.indexer_parameters(), !config.indexer_frozen);
    if (warms_up()) {
        warmup_optimizer_ =
            std::make_unique<AdamW>(indexer_, AdamWConfig{.weight_decay = config.weight_decay});
        return;
    }
    const HybridOptimizerConfig hybrid{.weight_decay = config.weight_decay,
                                       .use_muon = config.optimizer == OptimizerKind::muon,
                                       .muon_gates = config.muon_gates,
                                       .packed_rows = [&config](const std::string& name) {
                                           return packed_rows(config.model, config.muon_matrices, name);
                                       }};
    main_optimizer_ = std::make_unique<HybridOptimizer>(main_, hybrid);
    indexer_optimizer_ = std::make_unique<HybridOptimizer>(indexer_, hybrid);
}

StageRunner::~StageRunner() = default;

void StageRunner::prepare_optimizers(int64_t index) {
    if (warms_up()) return warmup_optimizer_->prepare(learning_rate(index));
    main_optimizer_->prepare(learning_rate(index));
    const double peak = stage_.indexer_learning_rate.value_or(stage_.peak_learning_rate);
    indexer_optimizer_->prepare(scheduled_learning_rate(index, stage_.steps, peak));
}

std::function<void()> StageRunner::plan_update(const Tensor& guard) {
    if (warms_up()) return warmup_optimizer_->plan(guard);
    return [of_main = main_optimizer_->plan(guard), of_indexer = indexer_optimizer_->plan(guard)] {
        of_main();
        of_indexer();
    };
}

StageRunner::Losses StageRunner::losses_of(Generator& rng, const Tensor& tokens, const Tensor& targets,
                                           FiniteWatch* watch) const {
    const AttentionStage stage = warms_up() ? AttentionStage::dense : AttentionStage::sparse;
    ForwardOptions options{.stage = stage,
                           .rng = &rng,
                           .indexer_loss = model_.config().is_sparse() && !config_.indexer_frozen,
                           .which_loss = selector_loss(config_, stage),
                           .logits = !warms_up()};
    if (watch) watch->watch(options);
    const ModelOutput out = model_.forward(tokens, options);
    if (watch) watch->look("the indexers' loss", out.indexer_loss);
    if (warms_up()) return {out.indexer_loss, out.indexer_loss.detach(), {}};
    const TimedPart part(step_part::head);
    const Tensor lm = cross_entropy(out.logits, targets.alias({targets.numel()}));
    if (watch) watch->look("the loss of the language model", lm);
    if (watch) watch->look("the load-balancing loss", out.load_balancing);
    Tensor loss = add(lm, scale(out.load_balancing, config_.load_balancing_weight));
    if (out.indexer_loss.defined()) loss = add(loss, scale(out.indexer_loss, config_.indexer_loss_weight));
    return {loss, lm.detach(), out.assignments};
}

double StageRunner::learning_rate(int64_t index) const {
    if (warms_up()) return stage_.peak_learning_rate;
    return scheduled_learning_rate(index, stage_.steps, stage_.peak_learning_rate);
}

// The main model and the indexer have separate losses, so each is clipped by its own norm: otherwise the size
// of the alignment gradient would change the language model's steps.
StageRunner::Norms StageRunner::clip() const {
    Norms norms;
    for (const NamedTensors* group : {&indexer_, &main_}) {
        if (group->empty() || (group == &main_ && warms_up())) continue;
        norms.reported = clip_gradients(*group, config_.grad_clip);
        if (norms.guard.defined())
            accumulate(norms.guard, norms.reported);
        else
            norms.guard = norms.reported.clone();
    }
    return norms;
}

Generator StageRunner::generator_of(int64_t index) const {
    return Generator(static_cast<uint64_t>(config_.seed), first_stream(stage_.kind) + stream_offset(index));
}

// Runs the failed step once more, without an update: what it read is as it was then.
std::string StageRunner::first_non_finite_of(int64_t index, const Batch& batch) const {
    if (const auto weight = non_finite_weight(model_))
        return index == 0 ? *weight + " before it"
                          : fmt::format("{}, since step {} at the latest", *weight, index);
    const GradientsOfOneStep gradients{&main_, &indexer_};
    const Device device = model_.device();
    FiniteWatch watch;
    std::optional<std::string> gradient;
    const auto found = first_non_finite(watch, [&] {
        Generator rng = generator_of(index);
        const Losses losses = losses_of(rng, batch.tokens.to(device), batch.targets.to(device), &watch);
        if (watch.found()) return;
        backward(losses.total);
        gradient = non_finite_gradient(model_);
    });
    if (found) return *found;
    return gradient ? *gradient : "all of it is finite when it runs again";
}

// `numbers`: what the failed step said.
void StageRunner::fail_diverged(int64_t index, const Batch& batch, const std::string& numbers) const {
    const std::string what = first_non_finite_of(index, batch);
    throw Error(ErrorKind::diverged,
                fmt::format("diverged in {} at step {}: {}{}; {}", title_of(stage_), index + 1, what, numbers,
                            advice_on_divergence(config_, stage_, index)));
}

// Forward, backward, clipping and update, given to the model's device in one piece: nothing here waits for a
// CUDA device, so that the whole can be recorded.
StepOutputs StageRunner::run_step(Generator rng, const Tensor& tokens, const Tensor& targets) {
    const GradientsOfOneStep gradients{&main_, &indexer_};
    const Losses losses = losses_of(rng, tokens, targets);
    backward(losses.total);
    const TimedPart part(step_part::optimizer);
    const Norms norms = clip();
    const Tensor loss = losses.reported.to(DType::float64);
    accumulate(norms.guard, loss);
    if (may_update(norms.guard)) {
        const auto update = plan_update(norms.guard);
        updating_ = true;
        update();
        if (!losses.assignments.empty())
            model_.balance_routers(losses.assignments, config_.bias_update_speed, norms.guard);
        updating_ = false;
    }
    return {.loss = loss, .grad_norm = norms.reported, .guard = norms.guard};
}

// The host asks the guard where it can; a CUDA device heeds it by itself, in every update.
bool StageRunner::may_update(const Tensor& guard) const {
    return !model_.device().is_cpu() || std::isfinite(guard.item());
}

// A recording runs again with other tokens and other random streams: all of them lie on the device.
StepValues StageRunner::values_on_cuda(int64_t index, const Batch& batch) {
    if (!recorded_)
        recorded_ = std::make_unique<RecordedStep>(
            batch.tokens.shape(),
            [this](const RecordedStep::Inputs& in) {
                const Generator rng(static_cast<uint64_t>(config_.seed), first_stream(stage_.kind),
                                    in.stream_offset);
                return run_step(rng, in.tokens, in.targets);
            },
            may_record_);
    return recorded_->run(batch, stream_offset(index));
}

StepValues StageRunner::values_of(int64_t index, const Batch& batch) {
    if (!model_.device().is_cpu()) return values_on_cuda(index, batch);
    const StepOutputs out = run_step(generator_of(index), batch.tokens, batch.targets);
    return {.loss = out.loss.item(), .grad_norm = out.grad_norm.item(), .guard = out.guard.item()};
}

StageRunner::StepResult StageRunner::step(int64_t index, const Batch& batch) {
    if (updating_)
        fail(fmt::format("the update before step {} of {} failed halfway: go on from a checkpoint", index + 1,
                         title_of(stage_)));
    StepResult result{.loss = 0, .grad_norm = 0, .learning_rate = learning_rate(index)};
    prepare_optimizers(index);
    try {
        const StepValues values = values_of(index, batch);
        result.loss = values.loss;
        result.grad_norm = std::isfinite(values.guard) ? values.grad_norm : values.guard;
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::diverged) throw;
        fail_diverged(index, batch, "");  // a NaN stopped the forward
    }
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
        fail_diverged(index, batch,
                      fmt::format("; loss {}, gradient norm {}", text_of_number(result.loss),
                                  text_of_number(result.grad_norm)));
    return result;
}

NamedTensors StageRunner::optimizer_state() const {
    if (warms_up()) return warmup_optimizer_->state();
    NamedTensors state = main_optimizer_->state();
    for (NamedTensor& entry : indexer_optimizer_->state()) state.push_back(std::move(entry));
    return state;
}

void StageRunner::load_optimizer_state(const NamedTensors& state) {
    if (warms_up()) return warmup_optimizer_->load_state(state);
    StateReader reader(state);
    main_optimizer_->load_state(reader);
    indexer_optimizer_->load_state(reader);
    reader.expect_end();
}

double measure_step_seconds(const ExperimentConfig& config, const Stage& stage, const Dataset& data,
                            Device device) {
    share_cores();
    const Transformer model(
        config.model,
        {.seed = static_cast<uint64_t>(config.seed), .std = config.model.init_std, .device = device});
    StageRunner runner(config, model, trial_of(stage));
    const int64_t unlike_the_rest = device.is_cpu() ? 1 : 3;  // fill caches; on CUDA also record the step
    std::vector<double> seconds;
    for (int64_t i = 0; i < unlike_the_rest + 3; ++i) {
        const auto start = Clock::now();
        runner.step(i, data.batch(i));
        if (i >= unlike_the_rest) seconds.push_back(seconds_since(start));
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[1];
}

namespace {

// The loop's state between steps: what a checkpoint stores besides weights and optimiser.
class TrainingSession {
  public:
    TrainingSession(const TrainingRun& run, TrainingHistory& history)
        : run_(run), history_(history), stages_(stages_of(run.config)) {}

    TrainingOutcome run() {
        begin_log(restore());
        for (; stage_ < stages_.size(); ++stage_, step_ = 0) {
            if (!runner_ || runner_->stage().kind != stages_[stage_].kind)
                runner_ = std::make_unique<StageRunner>(run_.config, run_.model, stages_[stage_]);
            if (run_stage() == TrainingOutcome::interrupted) return TrainingOutcome::interrupted;
            if (stage_ + 1 == stages_.size()) save();
        }
        history_.total_seconds += seconds_since(started_);
        history_.peak_memory_bytes =
            std::max(history_.peak_memory_bytes, memory_stats(run_.model.device()).peak_bytes);
        return TrainingOutcome::finished;
    }

  private:
    // Whether there was a checkpoint to go on from.
    bool restore() {
        if (run_.resume_from.empty()) return false;
        const Checkpoint checkpoint = read_last_checkpoint(run_.resume_from);
        run_.model.load_state(checkpoint.model, run_.resume_from);
        while (stage_ < stages_.size() && stages_[stage_].kind != checkpoint.stage) ++stage_;
        if (stage_ == stages_.size())
            fail_bad_file(fmt::format("{}: its checkpoint is of the {} stage, which this run has not",
                                      run_.resume_from, name_of(checkpoint.stage)));
        if (checkpoint.step > stages_[stage_].steps)
            fail_bad_file(fmt::format(
                "{}: its checkpoint is at step {} of the {} stage, which has {} in this run",
                run_.resume_from, checkpoint.step, name_of(checkpoint.stage), stages_[stage_].steps));
        step_ = checkpoint.step;
        history_ = checkpoint.history;
        due_ = checkpoint.pending;
        steps_since_evaluation_ = checkpoint.recent_steps;
        seconds_since_evaluation_ = checkpoint.recent_seconds;
        runner_ = std::make_unique<StageRunner>(run_.config, run_.model, stages_[stage_]);
        runner_->load_optimizer_state(checkpoint.optimizer);
        Progress(name_of(stages_[stage_].kind), run_.quiet)
            .line(fmt::format("resuming {} at step {} of {}", name_of(stages_[stage_].kind), step_,
                              stages_[stage_].steps));
        return true;
    }

    // A checkpoint of weights that are not finite would take the place of one that can go on.
    void save() {
        if (const auto weight = non_finite_weight(run_.model))
            throw Error(ErrorKind::diverged,
                        fmt::format("diverged in step {} of {}: {}; {}", step_, title_of(stages_[stage_]),
                                    *weight, advice_on_divergence(run_.config, stages_[stage_], step_)));
        history_.peak_memory_bytes =
            std::max(history_.peak_memory_bytes, memory_stats(run_.model.device()).peak_bytes);
        Checkpoint checkpoint{.stage = stages_[stage_].kind,
                              .step = step_,
                              .history = history_,
                              .pending = due_,
                              .recent_steps = steps_since_evaluation_,
                              .recent_seconds = seconds_since_evaluation_};
        checkpoint.history.total_seconds += seconds_since(started_);
        checkpoint.model = run_.model.state();
        checkpoint.optimizer = runner_->optimizer_state();
        log_->sync();
        save_checkpoint(run_.folder, checkpoint, run_.config);
    }

    // Each turn does what is due after the steps done so far, and then a step. So a run that stopped in an
    // evaluation goes on with it: the checkpoint before it has the numbers of the step.
    TrainingOutcome run_stage() {
        const Stage& stage = stages_[stage_];
        Progress progress(name_of(stage.kind), run_.quiet);
        while (true) {
            if (due_) note_evaluation(progress);
            if (step_ == stage.steps) break;
            share_cores();
            const auto start = Clock::now();
            const StageRunner::StepResult result = runner_->step(step_, run_.data.batch(step_));
            ++step_;
            const double seconds = seconds_since(start);
            note_step(result, seconds, progress);
            const Measurement measured = measurement_of(result, seconds);
            if (evaluates(stage))
                due_ = measured;
            else
                log_->append({.stage = stage.kind, .step = step_, .numbers = measured});
            const bool last = step_ == stage.steps && stage_ + 1 == stages_.size();
            const bool stop = !last && run_.stop_wanted();
            const bool due = step_ % run_.config.checkpoint_every == 0 || step_ == stage.steps;
            if (due_ || due || stop) save();
            if (stop) return TrainingOutcome::interrupted;
        }
        if (stage.kind == StageKind::warmup) {
            seconds_since_evaluation_ = 0;  // the next evaluation's time per step is the sparse stage's alone
            steps_since_evaluation_ = 0;
            const bool entropy = run_.config.indexer_warmup == IndexerWarmup::entropy;
            progress.line(fmt::format(
                "warm-up done: {} loss {} -> {} in {}", entropy ? "entropy" : "alignment",
                number_text("{:.4f}", history_["warmup_loss"].front()),
                number_text("{:.4f}", history_["warmup_loss"].back()), human_time(history_.warmup_seconds)));
        }
        return TrainingOutcome::finished;
    }

    bool evaluates(const Stage& stage) const {
        return stage.kind != StageKind::warmup &&
               (step_ % run_.config.eval_every == 0 || step_ == stage.steps);
    }

    void note_step(const StageRunner::StepResult& result, double seconds, Progress& progress) {
        const Stage& stage = stages_[stage_];
        const bool warmup = stage.kind == StageKind::warmup;
        (warmup ? history_["warmup_loss"] : history_["step_loss"]).push_back(result.loss);
        (warmup ? history_.warmup_seconds : history_.training_seconds) += seconds;
        seconds_since_evaluation_ += seconds;
        ++steps_since_evaluation_;
        const double recent = seconds_since_evaluation_ / static_cast<double>(steps_since_evaluation_);
        const ExperimentConfig& c = run_.config;
        progress.step({.step = step_,
                       .steps = stage.steps,
                       .loss = result.loss,
                       .learning_rate = result.learning_rate,
                       .grad_norm = result.grad_norm,
                       .tokens_per_second = static_cast<double>(c.batch_size * c.model.max_seq_len) / recent,
                       .val_loss = history_.last("val_loss"),
                       .seconds_left = seconds_left(recent)});
    }

    double seconds_left(double recent) const {
        double left =
            static_cast<double>(stages_[stage_].steps - step_) * (recent + evaluation_seconds_per_step_);
        for (size_t s = stage_ + 1; s < stages_.size(); ++s)
            left += static_cast<double>(stages_[s].steps) * run_.estimated_step_seconds[s];
        return left + run_.seconds_after;
    }

    Measurement measurement_of(const StageRunner::StepResult& result, double seconds) const {
        const ExperimentConfig& c = run_.config;
        Measurement m;
        m["loss"] = result.loss;
        m["learning_rate"] = result.learning_rate;
        m["grad_norm"] = result.grad_norm;
        m["tokens_per_second"] = static_cast<double>(c.batch_size * c.model.max_seq_len) / seconds;
        m["seconds"] = seconds;
        return m;
    }

    // The mean loss of the steps since the evaluation before.
    double recent_loss() const {
        const std::vector<double>& losses = history_["step_loss"];
        const int64_t n = std::min<int64_t>(step_ - (history_.steps.empty() ? 0 : history_.steps.back()),
                                            static_cast<int64_t>(losses.size()));
        return std::accumulate(losses.end() - n, losses.end(), 0.0) / static_cast<double>(n);
    }

    // Of the model after the step whose numbers are due.
    void note_evaluation(Progress& progress) {
        const auto start = Clock::now();
        Measurement& m = *due_;
        try {
            m.add(evaluate(run_.model, run_.data, run_.config.eval_batches));
        } catch (const Error& e) {
            if (e.kind() != ErrorKind::diverged) throw;
            throw Error(e.kind(), fmt::format("diverged in the evaluation after step {} of {}: {}; {}", step_,
                                              title_of(stages_[stage_]), e.what(),
                                              advice_on_divergence(run_.config, stages_[stage_], step_)));
        }
        m["train_loss"] = recent_loss();
        m["time_per_step"] = seconds_since_evaluation_ / static_cast<double>(steps_since_evaluation_);
        keep_if_best(m["val_loss"]);
        history_.note_evaluation(step_, m);
        progress.line(fmt::format("{} {}/{} | {}", name_of(stages_[stage_].kind), step_,
                                  stages_[stage_].steps, model_line(m)));
        if (const std::string text = selection_line(m); !text.empty()) progress.line("    " + text);
        log_->append({.stage = stages_[stage_].kind, .step = step_, .numbers = m});
        due_.reset();
        evaluation_seconds_per_step_ = seconds_since(start) / static_cast<double>(run_.config.eval_every);
        seconds_since_evaluation_ = 0;
        steps_since_evaluation_ = 0;
    }

    void keep_if_best(double val_loss) {
        for (const double earlier : history_["val_loss"])
            if (earlier <= val_loss) return;
        write_final_model(run_.folder + "/best_model.pt", run_.model, run_.config,
                          run_.data.tokenizer().to_json(), run_.manifest_json);
    }

    // A step that waits for its evaluation is not in the logs yet, or with one that a killed process did not
    // checkpoint.
    void begin_log(bool resumed) {
        std::vector<MetricsRow> kept;
        if (resumed)
            kept = rows_until(read_metrics(run_.resume_from), stages_[stage_].kind, due_ ? step_ - 1 : step_);
        log_ = std::make_unique<MetricsLog>(run_.folder, run_.config.tensorboard, kept);
    }

    const TrainingRun& run_;
    TrainingHistory& history_;
    std::vector<Stage> stages_;
    std::unique_ptr<StageRunner> runner_;
    std::unique_ptr<MetricsLog> log_;
    size_t stage_ = 0;
    int64_t step_ = 0;
    std::optional<Measurement> due_;  // of a step whose evaluation is still to come
    double seconds_since_evaluation_ = 0;
    int64_t steps_since_evaluation_ = 0;
    double evaluation_seconds_per_step_ = 0;
    Clock::time_point started_ = Clock::now();
};

}  // namespace

TrainingOutcome train(const TrainingRun& run, TrainingHistory& history) {
    return TrainingSession(run, history).run();
}

}  // namespace sieve
