#include "framework/program/device.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "framework/blas/gemm.h"
#include "framework/core/core_share.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"
#include "framework/program/progress.h"

namespace sieve {
namespace {

// Said once, however often a device is chosen.
void say_how_bf16_is_computed() {
    static const bool said = [] {
        const cpu::Bf16Products& products = cpu::bf16_products();
        if (!products.refused.empty())
            fmt::print(stderr, "precision: the system refuses AMX's tiles: {}; bf16 is computed by {}\n",
                       products.refused, products.by);
        if (!products.in_hardware)
            fmt::print(stderr,
                       "precision: no AVX512_BF16 and no AMX here: bf16 is computed by {}, which brings no "
                       "speed\n",
                       products.by);
        return true;
    }();
    (void)said;
}

Precision choose_precision(PrecisionChoice choice, Device device) {
    switch (choice) {
        case PrecisionChoice::automatic:
            if (!device.is_cpu()) return Precision::bf16;
            if (!cpu::bf16_products().in_hardware) return Precision::fp32;
            say_how_bf16_is_computed();
            return Precision::bf16;
        case PrecisionChoice::fp32:
            return Precision::fp32;
        case PrecisionChoice::tf32:
            if (device.is_cpu())
                fail_usage("precision: tf32 needs a CUDA device; a CPU computes in fp32 or bf16");
            return Precision::tf32;
        case PrecisionChoice::bf16:
            if (device.is_cpu()) say_how_bf16_is_computed();
            return Precision::bf16;
    }
    return Precision::fp32;
}

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

Device choose_device(const ExperimentConfig& config) {
    const bool available = cuda::available();
    if (config.device == DeviceChoice::cuda && !available)
        fail_usage(
            fmt::format("device: cuda is not available: {}; use --device cpu", cuda::why_unavailable()));
    if (config.device == DeviceChoice::automatic && !available)
        fmt::print(stderr, "device: running on the CPU: {}\n", cuda::why_unavailable());
    const Device device = config.device == DeviceChoice::cpu || !available ? Device{} : cuda::device;
    set_precision(choose_precision(config.precision, device));
    return device;
}

MachineUsed machine_used(Device device) {
    MachineUsed machine{.device = to_string(device),
                        .precision = precision(),
                        .threads = full_thread_count(),
                        .processor = processor_name(),
                        .kernels = cpu::gemm_backend()};
    if (!device.is_cpu()) machine.device = cuda::device_info().name;
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
        return fmt::format("cpu, {} threads{}, matrix products by {}", full_thread_count(), quota_text(),
                           cpu::gemm_backend());
    const cuda::DeviceInfo info = cuda::device_info();
    return fmt::format("{}, compute capability {}.{}, {}, precision {}", info.name, info.major, info.minor,
                       human_bytes(info.total_bytes), name_of(precision()));
}

}  // namespace sieve
