// The whole experiment: train the classic model, then the sparse one, compare them.
#pragma once

#include "framework/train/command_line.h"

namespace sieve {

// Returns the program's exit code.
int run_experiment(const ExperimentCommand& command);

}  // namespace sieve
