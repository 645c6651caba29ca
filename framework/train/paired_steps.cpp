#include "framework/train/paired_steps.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "framework/core/error.h"
#include "framework/train/trainer.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

double quantile_of(const std::vector<double>& sorted, double share) {
    const double at = share * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(at), above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], at - std::floor(at));
}

// A model and the stage that trains it.
class TrialModel {
  public:
    TrialModel(const ExperimentConfig& config, AttentionKind attention, Device device)
        : config_(with(config, attention)),
          model_(
              config_.model,
              {.seed = static_cast<uint64_t>(config.seed), .std = config.model.init_std, .device = device}),
          runner_(config_, model_, trial_of(stages_of(config_).back())) {}

    double seconds_of_step(const Dataset& data) {
        const Batch batch = data.batch(steps_);
        const auto start = Clock::now();
        runner_.step(steps_++, batch);
        return seconds_since(start);
    }

  private:
    static ExperimentConfig with(ExperimentConfig config, AttentionKind attention) {
        config.model.attention = attention;
        return config;
    }

    ExperimentConfig config_;
    Transformer model_;
    StageRunner runner_;
    int64_t steps_ = 0;
};

}  // namespace

Quartiles quartiles_of(std::vector<double> values) {
    if (values.empty()) fail("quartiles of nothing");
    std::sort(values.begin(), values.end());
    return {quantile_of(values, 0.25), quantile_of(values, 0.5), quantile_of(values, 0.75)};
}

Quartiles PairedSteps::speedup() const {
    std::vector<double> ratios;
    ratios.reserve(classic.size());
    for (size_t i = 0; i < classic.size(); ++i) ratios.push_back(classic[i] / sparse[i]);
    return quartiles_of(ratios);
}

Verdict judge(const Quartiles& ratio, double wanted) {
    if (ratio.lower >= wanted) return Verdict::met;
    return ratio.upper < wanted ? Verdict::not_met : Verdict::undecided;
}

PairedSteps time_in_pairs(const ExperimentConfig& config, const Dataset& data, Device device,
                          double seconds) {
    constexpr int fewest = 7, most = 15;
    const int unlike_the_rest = device.is_cpu() ? 2 : 4;  // fill caches; on CUDA also record the step
    TrialModel classic(config, AttentionKind::classic, device), sparse(config, AttentionKind::sparse, device);
    for (int i = 0; i < unlike_the_rest; ++i) {
        classic.seconds_of_step(data);
        sparse.seconds_of_step(data);
    }
    PairedSteps pairs;
    const auto start = Clock::now();
    for (int i = 0; i < fewest || (i < most && seconds_since(start) < seconds); ++i) {
        const bool classic_first = i % 2 == 0;
        if (classic_first) pairs.classic.push_back(classic.seconds_of_step(data));
        pairs.sparse.push_back(sparse.seconds_of_step(data));
        if (!classic_first) pairs.classic.push_back(classic.seconds_of_step(data));
    }
    return pairs;
}

}  // namespace sieve
