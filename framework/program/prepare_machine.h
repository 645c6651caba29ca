// The machine as the configuration wants it.
#pragma once

#include "framework/core/device.h"
#include "framework/program/config.h"

namespace sieve {

// Device, threads and memory limit. Throws an out-of-memory error as check_model_fits does.
Device prepare_machine(const ExperimentConfig& config);

// Throws an out-of-memory error, with numbers, for a model whose parameters and gradients alone take more
// memory than there is: it is refused before any of it is allocated.
void check_model_fits(const ExperimentConfig& config, Device device);

}  // namespace sieve
