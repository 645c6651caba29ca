// Device memory: one reserved range of addresses that the host can touch only while a DeviceAccess lives.
#pragma once

#include <cstddef>
#include <string>

namespace sieve::cuda_emulation {

// While one lives, device memory can be read and written: kernels and copies run under it.
class DeviceAccess {
  public:
    DeviceAccess();
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// Null when the memory is full. The contents are 0xFF bytes.
void* allocate_device(size_t bytes);
bool free_device(void* pointer);  // false: not an allocation
bool is_device(const void* pointer);
// Whether [pointer, pointer + bytes) lies inside one allocation.
bool is_allocated(const void* pointer, size_t bytes);
size_t device_bytes_total();
size_t device_bytes_free();
// Throws when something wrote between allocations. The address sanitizer finds that itself, and earlier.
void check_red_zones(const std::string& culprit);

}  // namespace sieve::cuda_emulation
