// The CUDA device as the host code sees it: no CUDA header is needed to include this one.
//
// All work goes to one stream, in order. Nothing here waits for the device unless its comment says so, and
// every such wait is counted: a training step has exactly one (train/cuda_step.h).
#pragma once

#include <cstdint>
#include <string>

#include "framework/core/cuda/twin.h"
#include "framework/core/device.h"
#include "framework/core/shape.h"

namespace sieve::cuda {

// The first CUDA device; others are chosen by CUDA_VISIBLE_DEVICES.
constexpr Device device{DeviceType::cuda, 0};

bool built();      // this program contains the CUDA kernels
bool available();  // and there is a device that runs them
// Why not, for people: "this build has no CUDA (make CUDA=1 puts it in)", "no CUDA-capable device is detected".
std::string why_unavailable();

struct DeviceInfo {
    std::string name;
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    int64_t total_bytes = 0;
    int driver_version = 0, runtime_version = 0;  // 13000 is 13.0
};
SIEVE_CUDA_TWIN DeviceInfo device_info();

SIEVE_CUDA_TWIN void* device_malloc(int64_t bytes);        // null when the device is out of memory
SIEVE_CUDA_TWIN void device_free(void* pointer) noexcept;  // waits
// Host memory that copies can read while the host goes on.
SIEVE_CUDA_TWIN void* pinned_malloc(int64_t bytes);
SIEVE_CUDA_TWIN void pinned_free(void* pointer) noexcept;

SIEVE_CUDA_TWIN void copy_to_device(void* to, const void* from, int64_t bytes);  // waits
SIEVE_CUDA_TWIN void copy_to_host(void* to, const void* from, int64_t bytes);    // waits
// These do not: the pinned side must be left alone until the copy has run.
SIEVE_CUDA_TWIN void copy_from_pinned(void* to, const void* from, int64_t bytes);
SIEVE_CUDA_TWIN void copy_to_pinned(void* to, const void* from, int64_t bytes);
SIEVE_CUDA_TWIN void copy_on_device(void* to, const void* from, int64_t bytes);
SIEVE_CUDA_TWIN void fill_zero(void* to, int64_t bytes);

SIEVE_CUDA_TWIN void synchronize();          // waits; throws what a kernel did wrong
SIEVE_CUDA_TWIN int64_t synchronizations();  // waits since the program began (test hook)

// A recorded sequence of launches and copies that runs again as one. Between the two calls nothing runs; what
// the stream was given is kept. A wait or an allocation from the system in between is an error.
struct Graph;
SIEVE_CUDA_TWIN void begin_capture();
SIEVE_CUDA_TWIN Graph* end_capture();
SIEVE_CUDA_TWIN void launch_graph(Graph* graph);
SIEVE_CUDA_TWIN void destroy_graph(Graph* graph) noexcept;
SIEVE_CUDA_TWIN int64_t graph_nodes(const Graph* graph);
SIEVE_CUDA_TWIN bool capturing();

// Names the op in the errors of what is launched while it lives.
class OpScope {
  public:
    explicit OpScope(const char* op);
    ~OpScope();
    OpScope(const OpScope&) = delete;
    OpScope& operator=(const OpScope&) = delete;

  private:
    const char* before_;
};
// Remembers the shapes of the last few device tensors whose data was asked for: the operands, in an error.
void note_operand(const Shape& shape) noexcept;
// "rms_norm" and "on tensors [3,5] [5] [3,5]".
std::string current_op();
std::string current_operands();

}  // namespace sieve::cuda
