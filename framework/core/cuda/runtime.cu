#include <cuda_runtime.h>

#include <memory>

#include "framework/core/cuda/check.cuh"
#include "framework/core/cuda/runtime.h"

namespace sieve::cuda {
namespace {

int64_t waits = 0;

void wait_for_stream(const char* call) {
    ++waits;
    check(cudaStreamSynchronize(stream()), call);
}

}  // namespace

// Without a driver or a device cudaGetDeviceCount fails; that selects the CPU and is no error.
SIEVE_CUDA_TWIN int count_devices(std::string& reason) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return count;
    cudaGetLastError();
    int driver = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        reason = "no NVIDIA driver is installed";
    else
        reason = status == cudaSuccess ? "no CUDA-capable device is detected" : cudaGetErrorString(status);
    return 0;
}

// Never destroyed: tensors with static lifetime may outlive any static destructor.
cudaStream_t stream() {
    static cudaStream_t the_stream = [] {
        cudaStream_t s = nullptr;
        check(cudaSetDevice(device.index), "cudaSetDevice");
        check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        return s;
    }();
    return the_stream;
}

DeviceInfo device_info() {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, device.index), "cudaGetDeviceProperties");
    DeviceInfo info{.name = p.name,
                    .major = p.major,
                    .minor = p.minor,
                    .multiprocessors = p.multiProcessorCount,
                    .total_bytes = static_cast<int64_t>(p.totalGlobalMem)};
    check(cudaDriverGetVersion(&info.driver_version), "cudaDriverGetVersion");
    check(cudaRuntimeGetVersion(&info.runtime_version), "cudaRuntimeGetVersion");
    return info;
}

void* device_malloc(int64_t bytes) {
    stream();  // selects the device
    void* pointer = nullptr;
    const cudaError_t status = cudaMalloc(&pointer, static_cast<size_t>(bytes));
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return nullptr;
    }
    check(status, "cudaMalloc of " + std::to_string(bytes) + " bytes");
    return pointer;
}

void device_free(void* pointer) noexcept {
    ++waits;
    cudaFree(pointer);
}

void* pinned_malloc(int64_t bytes) {
    void* pointer = nullptr;
    check(cudaMallocHost(&pointer, static_cast<size_t>(bytes)),
          "cudaMallocHost of " + std::to_string(bytes) + " bytes");
    return pointer;
}

void pinned_free(void* pointer) noexcept {
    cudaFreeHost(pointer);
}

// CUDA lets earlier work finish before it reads pageable memory, and returns when it has read it.
void copy_to_device(void* to, const void* from, int64_t bytes) {
    if (bytes == 0) return;
    ++waits;
    copy_from_pinned(to, from, bytes);
}

void copy_from_pinned(void* to, const void* from, int64_t bytes) {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream()),
          "copy of " + std::to_string(bytes) + " bytes to the device");
}

void copy_to_host(void* to, const void* from, int64_t bytes) {
    if (bytes == 0) return;
    copy_to_pinned(to, from, bytes);
    wait_for_stream("copy to the host");
}

void copy_to_pinned(void* to, const void* from, int64_t bytes) {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream()),
          "copy of " + std::to_string(bytes) + " bytes to the host");
}

void copy_on_device(void* to, const void* from, int64_t bytes) {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream()),
          "copy of " + std::to_string(bytes) + " bytes on the device");
}

void fill_zero(void* to, int64_t bytes) {
    if (bytes == 0) return;
    check(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), stream()), "cudaMemsetAsync");
}

void synchronize() {
    wait_for_stream("the kernels before this wait");
}

int64_t synchronizations() {
    return waits;
}

struct Graph {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
};

void begin_capture() {
    check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

Graph* end_capture() {
    auto result = std::make_unique<Graph>();
    check(cudaStreamEndCapture(stream(), &result->graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&result->executable, result->graph, 0), "cudaGraphInstantiate");
    return result.release();
}

void launch_graph(Graph* graph) {
    check(cudaGraphLaunch(graph->executable, stream()), "cudaGraphLaunch");
}

void destroy_graph(Graph* graph) noexcept {
    cudaGraphExecDestroy(graph->executable);
    cudaGraphDestroy(graph->graph);
    delete graph;
}

int64_t graph_nodes(const Graph* graph) {
    size_t count = 0;
    check(cudaGraphGetNodes(graph->graph, nullptr, &count), "cudaGraphGetNodes");
    return static_cast<int64_t>(count);
}

bool capturing() {
    cudaStreamCaptureStatus status{};
    check(cudaStreamIsCapturing(stream(), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
}

}  // namespace sieve::cuda
