// Where a tensor's bytes live. The seam for CUDA: every tensor carries a Device, every op dispatches on it.
#pragma once

#include <cstdint>
#include <string>

namespace sieve {

enum class DeviceType : uint8_t { cpu, cuda };

struct Device {
    DeviceType type = DeviceType::cpu;
    int index = 0;

    bool is_cpu() const { return type == DeviceType::cpu; }
    bool operator==(const Device&) const = default;
};

inline std::string to_string(Device device) {
    return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace sieve
