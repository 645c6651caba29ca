// Where an experiment runs: --device and --precision.
#pragma once

#include <string>

#include "framework/core/device.h"
#include "framework/program/config.h"

namespace sieve {

// auto: the CUDA device when there is one, else the CPU, which is said on stderr. Sets the precision
// (core/precision.h): auto is bf16 on a CUDA device and on a CPU with instructions for it, otherwise fp32. bf16
// on a CPU without them is computed all the same, which is said on stderr once. Throws a usage error when cuda
// is asked for and there is none, or a precision that the device does not have.
Device choose_device(const ExperimentConfig& config);

// What a model was trained on.
struct MachineUsed {
    std::string device;  // "cpu", "NVIDIA H100 80GB HBM3"
    Precision precision = Precision::fp32;
    int threads = 0;  // those set, or one a core: other programs may have taken some of them now and then
    std::string processor;  // "AMD EPYC 9B45"
    std::string kernels;    // of matrix products on the CPU
};
MachineUsed machine_used(Device device);  // as it is set now

std::string describe(Device device);  // "cpu, 2 threads, ...", "NVIDIA H100 ..., 78 GiB, precision fp32"

}  // namespace sieve
