#include "framework/program/prepare_machine.h"

#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/program/device.h"

namespace sieve {

Device prepare_machine(const ExperimentConfig& config) {
    const Device device = choose_device(config);
    if (config.threads) set_thread_count(static_cast<int>(config.threads));
    set_memory_limit(config.memory_limit_mb << 20, device);
    return device;
}

}  // namespace sieve
