#include "framework/program/device.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "framework/blas/gemm.h"
#include "framework/core/core_share.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/program/progress.h"

namespace sieve {

Device choose_device(const ExperimentConfig& config) {
    const bool available = cuda::available();
    if (config.device == DeviceChoice::cuda && !available)
        fail_usage(
            fmt::format("device: cuda is not available: {}; use --device cpu", cuda::why_unavailable()));
    if (config.device == DeviceChoice::automatic && !available)
        fmt::print(stderr, "device: running on the CPU: {}\n", cuda::why_unavailable());
    const Device device = config.device == DeviceChoice::cpu || !available ? Device{} : cuda::device;
    if (device.is_cpu() && config.precision != cuda::Precision::fp32)
        fail_usage(fmt::format("precision: {} needs a CUDA device; the CPU computes in fp32",
                               name_of(config.precision)));
    cuda::set_precision(config.precision);
    return device;
}

namespace {

// As Linux names it; empty where it does not.
std::string processor_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name"))
            if (const size_t colon = line.find(": "); colon != std::string::npos)
                return line.substr(colon + 2);
    return "";
}

}  // namespace

MachineUsed machine_used(Device device) {
    MachineUsed machine{.device = to_string(device),
                        .threads = thread_count(),
                        .processor = processor_name(),
                        .kernels = cpu::gemm_backend()};
    if (!device.is_cpu()) {
        machine.device = cuda::device_info().name;
        machine.precision = cuda::precision();
    }
    return machine;
}

namespace {

// A quota is the reason why there are fewer threads than cores.
std::string quota_text() {
    const double quota = cpu_quota();
    return std::isinf(quota) ? "" : fmt::format(" (a CPU quota of {:.3g} cores)", quota);
}

}  // namespace

std::string describe(Device device) {
    if (device.is_cpu())
        return fmt::format("cpu, {} threads{}, matrix products by {}", thread_count(), quota_text(),
                           cpu::gemm_backend());
    const cuda::DeviceInfo info = cuda::device_info();
    return fmt::format("{}, compute capability {}.{}, {}, precision {}", info.name, info.major, info.minor,
                       human_bytes(info.total_bytes), name_of(cuda::precision()));
}

}  // namespace sieve
