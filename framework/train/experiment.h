// The whole experiment: train the classic model, then the sparse one, compare them.
#pragma once

#include "framework/data/dataset.h"
#include "framework/train/command_line.h"

namespace sieve {

// What the data part of the configuration asks load_dataset for.
DataConfig data_config(const ExperimentConfig& config);

// Returns the program's exit code.
int run_experiment(const ExperimentCommand& command);

}  // namespace sieve
