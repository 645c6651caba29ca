// A study trains one configuration with several values of some of its keys, each combination with several
// seeds, and sets the results beside each other.
//
//   folder/study.json     the plan, mean and deviation of each combination, every run (also the failed ones)
//   folder/summary.csv    a line a combination      folder/runs.csv   a line a run
//   folder/study.png      each metric against the values, with error bars
//   folder/runs/...       a folder a run, as an experiment leaves it
//
// A run's folder is named by its values and a hash of its whole configuration. A run that is finished is
// never trained twice, one that was interrupted goes on, and a classic model is not trained again for keys
// that only the sparse one has.
#pragma once

#include <cmath>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/runs/run_trainer.h"
#include "framework/train/metrics.h"

namespace sieve::plot {
class Axes;
}

namespace sieve {

struct VariedKey {
    std::string name;
    std::vector<std::string> values;  // as config_value writes them
};

// From what --vary and --values were given: one comma-separated list of values for each key. Throws usage
// errors for unknown keys, keys that cannot be varied, and values that are empty, equal or of the wrong type.
std::vector<VariedKey> parse_varied(const std::vector<std::string>& keys,
                                    const std::vector<std::string>& values);

struct StudyPlan {
    std::string title;   // of the figure and of the first line
    std::string folder;  // of everything that the study writes
    ExperimentConfig base;
    std::vector<VariedKey> varied;
    std::vector<AttentionKind> variants;
    int64_t seeds = 1;         // base.seed, base.seed + 1, ...
    bool reuse = true;         // keep finished runs and go on with interrupted ones
    double seconds_after = 0;  // estimate of what follows the study, for the ETA
};

// "indexer_heads = 4, seed 42"
std::string label_of(const StudyPlan& plan, const StudyRun& run);

// All runs of the plan, in the order in which they are trained: seed by seed, so that an unfinished study has
// seen every value. Throws a usage error for fewer seeds than 1 and for a key that concerns none of the
// variants.
std::vector<StudyRun> runs_of(const StudyPlan& plan);

struct StudyOutcome {
    std::vector<StudyRun> runs;
    bool interrupted = false;
    int64_t failed = 0;
};
// Trains what is not trained yet and writes the study's files. A run that fails is noted and does not stop
// the others. The caller has prepared the machine for plan.base.
StudyOutcome run_study(const StudyPlan& plan);

// The whole program: what will be trained, the study, the table. Returns the exit code: 1 when a run failed.
int run_ablation(const StudyPlan& plan);

// ---- Results: the run_metrics() of the table of metrics serve the files, the table and the figure.

// What the runs of the plan are ranked by, the lower the better: the validation loss, a token's; but bits per
// byte where the keys that vary change what a token is.
MetricKey ranking_metric(const StudyPlan& plan);

struct Spread {
    int64_t count = 0;
    double mean = NAN;
    double deviation = NAN;  // sample standard deviation; NaN for fewer than two values
};
Spread spread_of(const std::vector<double>& values);

// The runs of one variant with one set of values, over seeds.
struct Combination {
    AttentionKind variant;
    std::vector<std::string> values;
    int64_t failed = 0;
    std::vector<Measurement> finished;
    Spread spread(MetricKey metric) const;
};
std::vector<Combination> combinations_of(const std::vector<StudyRun>& runs);

// Of a variant's combinations the one with the lowest mean of the ranking_metric; null when none was measured.
const Combination* best_combination(const StudyPlan& plan, const std::vector<Combination>& combinations,
                                    AttentionKind variant);

// All of it as JSON, as study.json holds it.
nlohmann::ordered_json study_json(const StudyPlan& plan, const std::vector<StudyRun>& runs);
// study.json, summary.csv and runs.csv.
void write_study_files(const StudyPlan& plan, const std::vector<StudyRun>& runs);
void print_study(const StudyPlan& plan, const std::vector<StudyRun>& runs);
// One metric against the values of the first varied key; a line for each combination of the others.
void draw_study_metric(plot::Axes& axes, const StudyPlan& plan, const std::vector<StudyRun>& runs,
                       MetricKey metric);
void write_study_figure(const std::string& path, const StudyPlan& plan, const std::vector<StudyRun>& runs);

}  // namespace sieve
