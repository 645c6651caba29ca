// A stream is a queue of operations. They run when they are issued, or, in deferred mode, when the host
// waits; while a stream is captured they go into a graph instead.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emulation/runtime_api.h"

namespace sieve::cuda_emulation {

struct Operation {
    std::string name;
    std::function<void()> run;
};

using StreamPointer = std::shared_ptr<CUstream_st>;

// A point in a stream's life: the first `count` operations have run.
struct Position {
    StreamPointer stream;
    uint64_t count = 0;
};

// Gives the operation to the stream: the one way in which work reaches the device.
cudaError_t enqueue(cudaStream_t stream, Operation operation);

// Runs what the position needs. Errors of kernels are thrown.
void run_until(const Position& position);
void run_everything();
// For calls that must not throw: an error is kept, and thrown by the next call that waits.
void run_everything_quietly();

// null: the default stream; an unknown one gives a null pointer.
StreamPointer find_stream(cudaStream_t stream);
bool any_capture();
// Whether a call that a capture forbids is forbidden now; the capture is then lost.
bool forbidden_by_capture();

cudaError_t set_error(cudaError_t error);  // remembers failures for cudaGetLastError

}  // namespace sieve::cuda_emulation

struct CUgraph_st {
    std::vector<sieve::cuda_emulation::Operation> operations;
};

struct CUgraphExec_st {
    std::shared_ptr<const std::vector<sieve::cuda_emulation::Operation>> operations;
};

namespace sieve::cuda_emulation {

struct Capture {
    CUstream_st* origin;
    cudaStreamCaptureMode mode;
    bool lost = false;
    std::vector<Operation> operations;
};

}  // namespace sieve::cuda_emulation

struct CUstream_st {
    struct Item {
        sieve::cuda_emulation::Operation operation;
        std::vector<sieve::cuda_emulation::Position> after;
    };
    bool blocking = true;  // ordered with the default stream
    std::deque<Item> queue;
    uint64_t issued = 0, executed = 0;

    std::shared_ptr<sieve::cuda_emulation::Capture> capture;
    // During a capture: whether the stream holds work that the origin does not yet wait for.
    bool unjoined = false;
};

struct CUevent_st {
    bool timed = true;
    bool recorded = false;
    sieve::cuda_emulation::Position position;
    std::chrono::steady_clock::time_point time;
    std::shared_ptr<sieve::cuda_emulation::Capture> capture;  // when it was recorded into one
    CUstream_st* captured_on = nullptr;
};
