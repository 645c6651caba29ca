// The whole experiment: train the classic model, then the sparse one, compare them. Its parts, which studies
// and the baseline use as well: preparing the machine and the data, planning a variant, training it.
#pragma once

#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "framework/program/command_line.h"
#include "framework/train/checkpoint.h"
#include "framework/train/trainer.h"

namespace sieve {

// What the data part of the configuration asks load_dataset for.
DataConfig data_config(const ExperimentConfig& config);
// The data of the configuration; notes go to stderr.
Dataset load_data(ExperimentConfig& config);
// A given tokenizer brings its own vocabulary: vocab_size becomes what it has. A model of init_from keeps its own,
// in which the tokenizer must have its place.
void set_vocabulary(ExperimentConfig& config, const Dataset& data);
// The data that a model was trained on, cut by its own tokenizer. Throws a bad_file error when the text is
// another one now.
Dataset data_of_model(const FinalModel& trained, const std::string& file);
// What is about to be trained; `sparse`: say what the indexer is like.
void print_header(const std::string& title, const ExperimentConfig& config, const Dataset& data,
                  Device device, bool sparse);

// One variant to train, with what trial steps say about its cost.
struct PlannedVariant {
    ExperimentConfig config;    // config.model.attention says which variant
    std::string folder;         // for its results
    std::string classic_model;  // the final_model.pt that sparse_init = classic starts from
    Device device = {};
    std::string resume_from = {};  // the folder of the checkpoint to go on from; empty: from the start
    std::vector<double> step_seconds = {};  // per stage
    int64_t trial_bytes = 0;
    double seconds = 0;  // of the whole variant, evaluation included
};

// Says on stderr that a run without --resume replaces what the folder holds when it is complete.
void warn_about_earlier_run(const std::string& folder);
// Prepares the folder of a variant, and when `resume` finds what to go on from; false: the run is complete
// and kept.
bool wants_training(PlannedVariant& variant, const Dataset& data, bool resume);
// Runs trial steps and fills in the costs.
void estimate(PlannedVariant& variant, const Dataset& data);
// Trains one variant, in its unfinished folder; when it is complete its files take the places of an earlier
// run's (train/run_folder.h). The folder's lock is held. seconds_after: estimate of what follows, for the
// ETA.
TrainingOutcome run_variant(const PlannedVariant& variant, const Dataset& data, double seconds_after);

// Returns the program's exit code. Models that differ in more than their attention are compared when
// `allow_different`.
int run_experiment(const ExperimentCommand& command, bool allow_different);

}  // namespace sieve
