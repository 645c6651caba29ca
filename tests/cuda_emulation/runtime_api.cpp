// Device, memory and launches; streams, events and graphs are in stream.cpp.
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda_runtime.h"
#include "tests/cuda_emulation/block.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/shared_memory.h"
#include "tests/cuda_emulation/stream.h"
#include "tests/cuda_emulation/symbols.h"

using namespace sieve::cuda_emulation;

namespace {

constexpr int cuda_version = 13000;

std::map<const void*, size_t> shared_limits;  // by kernel
std::map<char*, size_t> pinned;               // start, bytes

struct ErrorText {
    cudaError_t error;
    const char *name, *text;
};
constexpr ErrorText error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

bool is_pinned(const void* pointer) {
    auto next = pinned.upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
    return next != pinned.begin() && pointer < std::prev(next)->first + std::prev(next)->second;
}

bool is_being_captured(cudaStream_t stream) {
    const StreamPointer own = find_stream(stream);
    return own && own->capture;
}

// Whether the two ends of a copy are what its kind says.
bool copy_is_valid(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    auto right = [&](const void* pointer, bool device) {
        return is_device(pointer) == device && (!device || is_allocated(pointer, bytes));
    };
    switch (kind) {
        case cudaMemcpyHostToHost:
            return right(to, false) && right(from, false);
        case cudaMemcpyHostToDevice:
            return right(to, true) && right(from, false);
        case cudaMemcpyDeviceToHost:
            return right(to, false) && right(from, true);
        case cudaMemcpyDeviceToDevice:
            return right(to, true) && right(from, true);
        case cudaMemcpyDefault:
            return right(to, is_device(to)) && right(from, is_device(from));
    }
    return false;
}

std::string text(dim3 d) {
    return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

[[noreturn]] void fail_launch(const std::string& name, const std::string& why) {
    throw std::runtime_error("launch of " + name + ": " + why);
}

void check_limits(const std::string& name, dim3 grid, dim3 block, size_t shared_bytes, const void* kernel) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
        fail_launch(name, "grid " + text(grid) + ", want 1 to 2147483647 x 65535 x 65535");
    if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 ||
        block.x * block.y * block.z > 1024)
        fail_launch(name, "block " + text(block) + ", want 1 to 1024 threads");
    const size_t fixed = static_shared_bytes(kernel);
    const auto limit = shared_limits.find(kernel);
    const size_t allowed = limit != shared_limits.end()   ? limit->second
                           : fixed < default_shared_bytes ? default_shared_bytes - fixed
                                                          : 0;
    if (shared_bytes > allowed)
        fail_launch(name, std::to_string(shared_bytes) + " bytes of dynamic shared memory beside " +
                              std::to_string(fixed) + " of __shared__ variables, allowed are " +
                              std::to_string(allowed) + "; cudaFuncSetAttribute can allow up to " +
                              std::to_string(max_shared_bytes) + " together");
}

}  // namespace

namespace sieve::cuda_emulation {

void launch(std::function<void()> thread_body, dim3 grid, dim3 block, size_t shared_bytes, const char* name,
            cudaStream_t stream, const void* kernel) {
    const std::string function = kernel_name(kernel);
    const std::string full_name = std::string("kernel ") + name + (function.empty() ? "" : ", " + function);
    check_limits(full_name, grid, block, shared_bytes, kernel);
    auto run = [=, body = std::move(thread_body)] {
        run_grid({.name = full_name,
                  .grid = grid,
                  .block = block,
                  .shared_bytes = shared_bytes,
                  .thread_body = body});
    };
    const cudaError_t error = enqueue(stream, {full_name, std::move(run)});
    if (error != cudaSuccess) fail_launch(full_name, cudaGetErrorString(error));
}

}  // namespace sieve::cuda_emulation

const char* cudaGetErrorName(cudaError_t error) {
    for (const ErrorText& known : error_texts)
        if (known.error == error) return known.name;
    return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    for (const ErrorText& known : error_texts)
        if (known.error == error) return known.text;
    return "unrecognized error code";
}

// ---- device -----------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return set_error(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device != 0) return set_error(cudaErrorInvalidDevice);
    *properties = {.name = "CUDA emulation",
                   .totalGlobalMem = device_bytes_total(),
                   .sharedMemPerBlock = default_shared_bytes,
                   .sharedMemPerBlockOptin = max_shared_bytes,
                   .sharedMemPerMultiprocessor = 228 << 10,
                   .regsPerBlock = 65536,
                   .warpSize = 32,
                   .maxThreadsPerBlock = 1024,
                   .maxThreadsDim = {1024, 1024, 64},
                   .maxGridSize = {2147483647, 65535, 65535},
                   .major = 9,
                   .minor = 0,
                   .multiProcessorCount = 2,
                   .maxThreadsPerMultiProcessor = 2048,
                   .l2CacheSize = 50 << 20};
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = cuda_version;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = cuda_version;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
    if (!kernel || value < 0 || static_cast<size_t>(value) > max_shared_bytes)
        return set_error(cudaErrorInvalidValue);
    shared_limits[kernel] = value;
    return cudaSuccess;
}

// ---- memory -----------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    if (!pointer) return set_error(cudaErrorInvalidValue);
    if (forbidden_by_capture()) return set_error(cudaErrorStreamCaptureUnsupported);
    *pointer = bytes ? allocate_device(bytes) : nullptr;
    return set_error(bytes && !*pointer ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
    if (forbidden_by_capture()) return set_error(cudaErrorStreamCaptureUnsupported);
    run_everything_quietly();
    return set_error(!pointer || free_device(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
    if (!pointer) return set_error(cudaErrorInvalidValue);
    if (forbidden_by_capture()) return set_error(cudaErrorStreamCaptureUnsupported);
    *pointer = bytes ? std::malloc(bytes) : nullptr;
    if (!bytes) return cudaSuccess;
    if (!*pointer) return set_error(cudaErrorMemoryAllocation);
    std::memset(*pointer, 0xFF, bytes);
    pinned[static_cast<char*>(*pointer)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
    if (forbidden_by_capture()) return set_error(cudaErrorStreamCaptureUnsupported);
    run_everything_quietly();
    if (pointer && !pinned.erase(static_cast<char*>(pointer))) return set_error(cudaErrorInvalidValue);
    std::free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    *free = device_bytes_free();
    *total = device_bytes_total();
    return cudaSuccess;
}

// Host memory that is not pinned is copied with the host's help: see the return statements.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    if (!copy_is_valid(to, from, bytes, kind)) return set_error(cudaErrorInvalidValue);
    const Operation copy{"cudaMemcpyAsync", [=] { std::memmove(to, from, bytes); }};
    if (is_being_captured(stream)) return enqueue(stream, copy);
    if (!is_device(from) && !is_pinned(from)) {  // read before the call returns
        auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
        return enqueue(stream, {copy.name, [=] { std::memcpy(to, staged->data(), bytes); }});
    }
    const cudaError_t error = enqueue(stream, copy);
    if (error != cudaSuccess || is_device(to) || is_pinned(to)) return error;
    return cudaStreamSynchronize(stream);  // written before the call returns
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (any_capture() && forbidden_by_capture()) return set_error(cudaErrorStreamCaptureUnsupported);
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    const bool inside_device = is_device(to) && is_device(from);  // the host does not wait for those
    return error != cudaSuccess || inside_device ? error : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    if (!is_allocated(pointer, bytes)) return set_error(cudaErrorInvalidValue);
    return enqueue(stream, {"cudaMemsetAsync", [=] { std::memset(pointer, value, bytes); }});
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
    return cudaMemsetAsync(pointer, value, bytes, nullptr);
}
