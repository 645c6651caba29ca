// The machine as the configuration wants it.
#pragma once

#include "framework/core/device.h"
#include "framework/program/config.h"

namespace sieve {

// Device, threads and memory limit.
Device prepare_machine(const ExperimentConfig& config);

}  // namespace sieve
