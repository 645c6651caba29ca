#include "framework/program/device.h"

#include <fmt/format.h>

#include "framework/blas/gemm.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/program/progress.h"

namespace sieve {
namespace {

cuda::Precision precision_of(const std::string& name) {
    if (name == "tf32") return cuda::Precision::tf32;
    if (name == "bf16") return cuda::Precision::bf16;
    return cuda::Precision::fp32;
}

}  // namespace

Device choose_device(const ExperimentConfig& config) {
    const bool available = cuda::available();
    if (config.device == "cuda" && !available)
        fail_usage(
            fmt::format("device: cuda is not available: {}; use --device cpu", cuda::why_unavailable()));
    if (config.device == "auto" && !available)
        fmt::print(stderr, "device: running on the CPU: {}\n", cuda::why_unavailable());
    const Device device = config.device == "cpu" || !available ? Device{} : cuda::device;
    if (device.is_cpu() && config.precision != "fp32")
        fail_usage(
            fmt::format("precision: {} needs a CUDA device; the CPU computes in fp32", config.precision));
    cuda::set_precision(precision_of(config.precision));
    return device;
}

std::string describe(Device device) {
    if (device.is_cpu())
        return fmt::format("cpu, {} threads, matrix products by {}", thread_count(), cpu::gemm_backend());
    const cuda::DeviceInfo info = cuda::device_info();
    const char* const names[] = {"fp32", "tf32", "bf16"};
    return fmt::format("{}, compute capability {}.{}, {}, precision {}", info.name, info.major, info.minor,
                       human_bytes(info.total_bytes), names[static_cast<size_t>(cuda::precision())]);
}

}  // namespace sieve
