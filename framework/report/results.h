// The results folder: what each file holds, how it is written and read back.
//
//   results/{classic,sparse}/   a run each (train/run_folder.h)
//   results/exp3/               the same of experiment 3, the dense baseline (baseline.h)
//   results/comparison/         comparison_metrics.json, performance_comparison.png, report.html, the
//                               attention pictures and statistics (inspect.h)
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/train/manifest.h"
#include "framework/train/metrics.h"
#include "framework/train/paired_steps.h"

namespace sieve {

struct ResultPaths {
    explicit ResultPaths(const std::string& results_dir);
    std::string variant(AttentionKind attention) const;  // folder
    std::string comparison() const;
    std::string baseline() const;  // of experiment 3
    const std::string& root() const { return root_; }

  private:
    std::string root_;
};

nlohmann::ordered_json training_results(const TrainingHistory& history, const Manifest& manifest);
// Checks that the arrays that belong together have one length; throws a bad_file error that begins with
// `path`.
TrainingHistory read_training_results(const std::string& path);

// Median over the evaluation intervals of the mean seconds per step: a busy minute of the machine does not
// change it.
double typical_step_seconds(const TrainingHistory& history);

void write_training_curves(const std::string& path, const TrainingHistory& history,
                           const ExperimentConfig& config);
void write_performance_comparison(const std::string& path, const TrainingHistory& classic,
                                  const TrainingHistory& sparse);

// A complete variant's files. Throws a bad_file error, with the command that makes them, when they are not
// there.
struct FinishedVariant {
    Manifest manifest;
    TrainingHistory history;
};
FinishedVariant finished_variant(const ResultPaths& paths, AttentionKind attention);
// The configuration of both: what only one of them has is its own, the rest the sparse model's.
ExperimentConfig compared_config(const FinishedVariant& classic, const FinishedVariant& sparse);
// What must be equal for one table of both, beside the attention: keys, data and machine.
std::vector<Difference> experiment_differences(const Manifest& classic, const Manifest& sparse);
// Throws a usage error that lists the differences, or with `allowed` says them on stderr; nothing when there
// are none.
void refuse_different(const std::vector<Difference>& differences, bool allowed, const std::string& folder);

// comparison_metrics.json, performance_comparison.png, and the table on stdout. Both variants must be
// finished, and be one experiment: their keys, data and machines equal. With `allow_different` what differs
// is listed, and no criterion is judged. Their speeds are judged by steps that both do in turns: those that
// `time_pairs` measures for the configuration of both.
using TimePairs = std::function<PairedSteps(const ExperimentConfig&)>;
void write_comparison(const ResultPaths& paths, const TimePairs& time_pairs, bool allow_different);

// The layers N, ascending, of which there is a picture folder/{stem}_layer{N}.png. None when there is no such
// folder.
std::vector<int64_t> layers_drawn(const std::string& folder, const std::string& stem);

}  // namespace sieve
