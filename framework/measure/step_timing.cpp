#include "framework/measure/step_timing.h"

#include <algorithm>
#include <chrono>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/rng.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/plot/artists.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

// Long enough for the learning rate to stay small in the few steps that are timed.
Stage stage_of(const ExperimentConfig& config) {
    return {config.model.is_sparse() ? StageKind::sparse : StageKind::classic, 1000, config.learning_rate};
}

ParameterInit init_of(const ExperimentConfig& config, Device device) {
    return {.seed = static_cast<uint64_t>(config.seed), .std = config.model.init_std, .device = device};
}

}  // namespace

Batch random_batch(const ExperimentConfig& c, int64_t index) {
    const Shape shape{c.batch_size, c.model.max_seq_len};
    const auto vocabulary = static_cast<uint32_t>(c.model.vocab_size);
    Batch batch{Tensor::empty(shape, DType::int32), Tensor::empty(shape, DType::int32)};
    for (int64_t i = 0; i < shape.numel(); ++i) {
        const Philox4 r = philox({1, static_cast<uint64_t>(index)}, static_cast<uint64_t>(i));
        batch.tokens.data<int32_t>()[i] = static_cast<int32_t>(r.v[0] % vocabulary);
        batch.targets.data<int32_t>()[i] = static_cast<int32_t>(r.v[1] % vocabulary);
    }
    return batch;
}

TimedModel::TimedModel(const ExperimentConfig& config, Device device, BatchOfStep batch_of)
    : config_(config),
      device_(device),
      batch_of_(std::move(batch_of)),
      live_before_(memory_stats(device).live_bytes),
      model_(config.model, init_of(config, device)),
      runner_(std::make_unique<StageRunner>(config_, model_, stage_of(config))),
      state_bytes_(memory_stats(device).live_bytes - live_before_),
      own_bytes_(state_bytes_) {
    if (!batch_of_) batch_of_ = [this](int64_t index) { return random_batch(config_, index); };
}

int64_t TimedModel::parameter_bytes() const {
    int64_t bytes = 0;
    for (const NamedTensor& p : model_.parameters()) bytes += p.tensor.bytes();
    return bytes;
}

double TimedModel::forward(const Batch& batch) const {
    const NoGrad guard;
    const bool sparse = model_.config().is_sparse();
    const ModelOutput out = model_.forward(batch.tokens.to(device_), {.indexer_loss = sparse});
    if (out.indexer_loss.defined()) out.indexer_loss.item();
    const TimedPart part(step_part::head);
    const int64_t count = batch.targets.numel();
    return score_predictions(out.logits, batch.targets.alias({count}).to(device_)).total_loss /
           static_cast<double>(count);
}

double TimedModel::execute(StepKind kind, const Batch& batch) {
    return kind == StepKind::forward ? forward(batch) : runner_->step(steps_, batch).loss;
}

TimedStep TimedModel::run(StepKind kind) {
    const Batch batch = batch_of_(steps_);
    reset_peak_memory(device_);
    const MemoryStats before = memory_stats(device_);
    const auto start = Clock::now();
    const double loss = execute(kind, batch);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const MemoryStats after = memory_stats(device_);
    const int64_t peak = own_bytes_ + after.peak_bytes - before.live_bytes;
    own_bytes_ += after.live_bytes - before.live_bytes;
    ++steps_;
    return {seconds, loss, peak, after.system_calls - before.system_calls};
}

std::vector<PartSeconds> TimedModel::run_in_parts(StepKind kind) {
    if (kind == StepKind::train && recording_ && !device_.is_cpu()) {
        runner_.reset();
        runner_ = std::make_unique<StageRunner>(config_, model_, stage_of(config_), false);
        recording_ = false;
        execute(kind, batch_of_(steps_));
        ++steps_;
    }
    const Batch batch = batch_of_(steps_);
    PartTimer timer(device_);
    execute(kind, batch);
    ++steps_;
    return timer.stop();
}

TimeSpread time_spread_of(const std::vector<double>& seconds) {
    const auto at = [&](double share) { return plot::quantile(seconds, share); };
    return {.median = at(0.5),
            .fastest = at(0),
            .slowest = at(1),
            .lower_quartile = at(0.25),
            .upper_quartile = at(0.75)};
}

}  // namespace sieve
