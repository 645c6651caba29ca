#include "framework/program/prepare_machine.h"

#include <fmt/format.h>

#include <vector>

#include "framework/core/allocator.h"
#include "framework/core/available_memory.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/program/device.h"
#include "framework/program/progress.h"
#include "models/parameter_count.h"

namespace sieve {

Device prepare_machine(const ExperimentConfig& config) {
    const Device device = choose_device(config);
    if (config.threads) set_thread_count(config.threads);
    set_memory_limit(config.memory_limit_mb << 20, device);
    check_model_fits(config, device);
    return device;
}

void check_model_fits(const ExperimentConfig& config, Device device) {
    ModelConfig blocks = config.model;
    blocks.vocab_size = 0;  // that of the trained tokenizer may be smaller than what was asked for
    const int64_t parameters = parameter_count(blocks).total(),
                  available = device.is_cpu() ? available_memory() : cuda::device_info().total_bytes;
    const int64_t bytes =
        2 * static_cast<int64_t>(sizeof(float)) * parameters;  // no overflow: models/config.h
    if (bytes <= available) return;
    const std::vector<SizeKind> lower{SizeKind::layers, SizeKind::width, SizeKind::experts,
                                      SizeKind::expert_width};
    throw Error(
        ErrorKind::out_of_memory,
        fmt::format("out of memory: the {} parameters of the blocks and their gradients take {}, of which {} "
                    "are free; lower {}",
                    human_count(parameters), human_bytes(bytes), human_bytes(available), one_of(lower)),
        lower);
}

}  // namespace sieve
