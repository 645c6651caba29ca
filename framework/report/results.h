// The results folder: what each file holds, how it is written and read back.
//
//   results/{classic,sparse}/   training_results.json, training_curves.png, final_model.pt, config.json
//   results/exp3/               the same of experiment 3, the dense baseline (baseline.h)
//   results/comparison/         comparison_metrics.json, performance_comparison.png, report.html, the
//                               attention pictures and statistics (inspect.h)
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/program/device.h"
#include "framework/train/metrics.h"

namespace sieve {

struct ResultPaths {
    explicit ResultPaths(const std::string& results_dir);
    std::string variant(AttentionKind attention) const;  // folder
    std::string comparison() const;
    std::string baseline() const;  // of experiment 3
    // Makes the folders; throws when they cannot be written.
    void make_folders() const;

  private:
    std::string root_;
};

nlohmann::ordered_json training_results(const TrainingHistory& history, const ExperimentConfig& config,
                                        const std::string& data_description, const MachineUsed& machine);
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

// comparison_metrics.json, performance_comparison.png, and the table on stdout. Both variants must be
// finished.
void write_comparison(const ResultPaths& paths, const ExperimentConfig& config);

// The layers N, ascending, of which there is a picture folder/{stem}_layer{N}.png. None when there is no such
// folder.
std::vector<int64_t> layers_drawn(const std::string& folder, const std::string& stem);

}  // namespace sieve
