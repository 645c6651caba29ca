// The folder of one run, such as results/sparse. While a run trains, everything that it writes lies in the
// folder "unfinished" in it; when the run is complete its files take the places of an earlier run's, all of
// them or none:
//
//   manifest.json           what made these files (manifest.h)
//   config.json             the configuration
//   training_results.json   the history: every number of the plots
//   training_curves.png
//   final_model.pt          the trained model
//   best_model.pt           the one with the lowest validation loss
//   checkpoint.pt           weights and optimiser after the last step, from which more steps can go on
//   metrics.jsonl, metrics.csv, events.out.tfevents.*   the logs (metrics_log.h)
//   unfinished/             a run that is not complete: manifest, logs, checkpoint.pt, checkpoint_previous.pt
//   replaced/               an unfinished run in whose place another was begun; gone when that is complete
//
// All functions but the readers want the folder's lock (io/folder_lock.h).
#pragma once

#include <optional>
#include <string>

#include "framework/train/manifest.h"

namespace sieve {

// Prepares a folder that may be there: moves what a killed program had begun to move, and removes temporary
// files of killed programs.
void prepare_run_folder(const std::string& folder);

std::string unfinished_folder(const std::string& folder);

// Begins a run: makes its unfinished folder, which holds the manifest. An unfinished run that is there is
// moved to "replaced" (as is said on stderr).
void begin_run(const std::string& folder, const Manifest& manifest);

// The files in the unfinished folder are those of a complete run: puts them into the place of the earlier
// run's. Killed at any instant, this is completed by the next prepare_run_folder.
void finish_run(const std::string& folder);

// The manifest of the complete run in `folder`, none when there is none. Readers need no lock. Throws a
// bad_file error when the files are of more than one run, or of a version that wrote no manifest.
std::optional<Manifest> finished_run(const std::string& folder);
// The manifest of the run in the unfinished folder, none when there is none or when it has no checkpoint.
std::optional<Manifest> unfinished_run(const std::string& folder);

}  // namespace sieve
