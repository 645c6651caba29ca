// Trains a list of runs one after the other: what studies and the claims have in common.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/train/metrics.h"

namespace sieve {

enum class RunStatus { pending, finished, failed };
template <>
inline constexpr auto enum_names<RunStatus> = std::to_array<NamedValue<RunStatus>>(
    {{RunStatus::pending, "not finished"}, {RunStatus::finished, "finished"}, {RunStatus::failed, "failed"}});

struct StudyRun {
    AttentionKind variant = AttentionKind::classic;
    std::vector<std::string> values;  // one for each varied key; empty when the variant does not have the key
    ExperimentConfig config;
    std::string folder, classic_model;
    RunStatus status = RunStatus::pending;
    std::string error;  // of a failed run: "diverged", "out of memory", "bad combination", ...
    std::string message;
    Measurement metrics;  // of a finished run: its run_metrics()
};

struct RunList {
    std::vector<StudyRun>& runs;
    std::function<std::string(const StudyRun&)> label;  // "indexer_heads = 4, seed 42"
    std::function<void()> after_run;  // called when a run has been trained or has failed in training
    bool reuse = true;                // keep finished runs and go on with interrupted ones
    double seconds_after = 0;         // estimate of what follows the list, for the ETA
};

// Finds what is finished, prints what the rest will cost, and trains it in the list's order. A run that fails
// is noted and does not stop the others. The caller has prepared the machine for `prepared`, caught the
// interrupts, and holds the lock of the folder that the runs' folders lie in. Returns false when it was
// interrupted: the state of the current run is saved, and the same list goes on from there.
bool train_runs(const RunList& list, const ExperimentConfig& prepared);

}  // namespace sieve
