#include "tests/cuda_emulation/stream.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <map>
#include <set>
#include <utility>

#include "tests/cuda_emulation/block.h"
#include "tests/cuda_emulation/device_memory.h"

namespace sieve::cuda_emulation {

namespace {

bool deferred = [] {
    const char* text = std::getenv("SIEVE_CUDA_EMULATION_DEFERRED");
    return text && std::string(text) == "1";
}();
std::exception_ptr kept_failure;
cudaError_t last_error = cudaSuccess;

// The default stream has the key null.
std::map<cudaStream_t, StreamPointer>& streams() {
    static std::map<cudaStream_t, StreamPointer> all{{nullptr, std::make_shared<CUstream_st>()}};
    return all;
}
std::set<cudaEvent_t> events;
std::set<cudaGraph_t> graphs;
std::set<cudaGraphExec_t> executables;

void throw_kept_failure() {
    if (kept_failure) std::rethrow_exception(std::exchange(kept_failure, nullptr));
}

void execute(const Operation& operation) {
    DeviceAccess access;
    operation.run();
    check_red_zones(operation.name);
}

// What an operation of the stream waits for beside its own stream: the default stream and the blocking ones
// are ordered with each other.
std::vector<Position> implied_order(cudaStream_t stream) {
    std::vector<Position> after;
    const StreamPointer& own = streams().at(stream);
    for (const auto& [key, other] : streams())
        if (other != own && other->blocking && own->blocking && (key == nullptr || stream == nullptr) &&
            other->executed < other->issued)
            after.push_back({other, other->issued});
    return after;
}

void push(cudaStream_t stream, Operation operation, std::vector<Position> after) {
    const StreamPointer own = streams().at(stream);
    own->queue.push_back({std::move(operation), std::move(after)});
    ++own->issued;
    if (!deferred) run_until({own, own->issued});
}

bool blocking_stream_is_captured() {
    return std::any_of(streams().begin(), streams().end(),
                       [](const auto& item) { return item.second->capture && item.second->blocking; });
}

void lose_captures() {
    for (const auto& [key, stream] : streams())
        if (stream->capture) stream->capture->lost = true;
}

}  // namespace

cudaError_t set_error(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

void set_deferred(bool value) {
    if (!value) run_everything();
    deferred = value;
}

StreamPointer find_stream(cudaStream_t stream) {
    const auto found = streams().find(stream);
    return found == streams().end() ? nullptr : found->second;
}

cudaError_t enqueue(cudaStream_t stream, Operation operation) {
    const StreamPointer own = find_stream(stream);
    if (!own) return set_error(cudaErrorInvalidResourceHandle);
    if (own->capture) {
        if (own->capture->lost) return set_error(cudaErrorStreamCaptureInvalidated);
        own->capture->operations.push_back(std::move(operation));
        own->unjoined = true;
        return cudaSuccess;
    }
    if (!stream && blocking_stream_is_captured()) {
        lose_captures();
        return set_error(cudaErrorStreamCaptureImplicit);
    }
    push(stream, std::move(operation), implied_order(stream));
    return cudaSuccess;
}

void run_until(const Position& position) {
    CUstream_st& stream = *position.stream;
    while (stream.executed < position.count && !stream.queue.empty()) {
        const CUstream_st::Item item = std::move(stream.queue.front());
        stream.queue.pop_front();
        for (const Position& other : item.after) run_until(other);
        ++stream.executed;
        execute(item.operation);
    }
}

void run_everything() {
    std::vector<StreamPointer> order;
    for (const auto& [key, stream] : streams()) order.push_back(stream);
    next_shuffler().shuffle(order.data(), static_cast<int>(order.size()));
    for (const StreamPointer& stream : order) run_until({stream, stream->issued});
    throw_kept_failure();
}

// What follows a failed operation runs too: the caller is about to free memory that it may use.
void run_everything_quietly() {
    std::exception_ptr first = std::exchange(kept_failure, nullptr);
    for (bool done = false; !done;) {
        try {
            run_everything();
            done = true;
        } catch (...) {
            if (!first) first = std::current_exception();
        }
    }
    kept_failure = first;
}

bool any_capture() {
    return std::any_of(streams().begin(), streams().end(),
                       [](const auto& item) { return item.second->capture; });
}

bool forbidden_by_capture() {
    const bool forbidden = std::any_of(streams().begin(), streams().end(), [](const auto& item) {
        return item.second->capture && item.second->capture->mode != cudaStreamCaptureModeRelaxed;
    });
    if (forbidden) lose_captures();
    return forbidden;
}

}  // namespace sieve::cuda_emulation

using namespace sieve::cuda_emulation;

cudaError_t cudaPeekAtLastError() {
    return last_error;
}
cudaError_t cudaGetLastError() {
    return std::exchange(last_error, cudaSuccess);
}

// ---- streams
// ------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
    if (!stream || flags > cudaStreamNonBlocking) return set_error(cudaErrorInvalidValue);
    auto created = std::make_shared<CUstream_st>();
    created->blocking = flags == cudaStreamDefault;
    *stream = created.get();
    streams()[*stream] = created;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const StreamPointer own = stream ? find_stream(stream) : nullptr;
    if (!own) return set_error(cudaErrorInvalidResourceHandle);
    run_everything_quietly();
    streams().erase(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const StreamPointer own = find_stream(stream);
    if (!own) return set_error(cudaErrorInvalidResourceHandle);
    if (own->capture || (!stream && blocking_stream_is_captured())) {
        lose_captures();
        return set_error(cudaErrorStreamCaptureUnsupported);
    }
    for (const Position& other : implied_order(stream))
        if (!stream) run_until(other);
    run_until({own, own->issued});
    throw_kept_failure();
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const StreamPointer own = find_stream(stream);
    if (!own) return set_error(cudaErrorInvalidResourceHandle);
    if (own->capture) {
        lose_captures();
        return set_error(cudaErrorStreamCaptureUnsupported);
    }
    if (own->executed == own->issued) return cudaSuccess;
    run_until({own, own->executed + 1});  // so that polling ends
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
    if (any_capture()) {
        lose_captures();
        return set_error(cudaErrorStreamCaptureUnsupported);
    }
    run_everything();
    return cudaSuccess;
}

// ---- events
// -------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
    if (!event) return set_error(cudaErrorInvalidValue);
    *event = new CUevent_st;
    (*event)->timed = !(flags & cudaEventDisableTiming);
    events.insert(*event);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (!events.count(event)) return set_error(cudaErrorInvalidResourceHandle);
    run_everything_quietly();  // a record may be under way
    events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const StreamPointer own = find_stream(stream);
    if (!own || !events.count(event)) return set_error(cudaErrorInvalidResourceHandle);
    event->capture = own->capture;
    event->captured_on = own->capture ? stream : nullptr;
    if (own->capture) return cudaSuccess;
    event->recorded = true;
    event->position = {own, own->issued + 1};
    return enqueue(stream, {"cudaEventRecord", [event] { event->time = std::chrono::steady_clock::now(); }});
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (!events.count(event)) return set_error(cudaErrorInvalidResourceHandle);
    if (event->capture) {
        event->capture->lost = true;
        return set_error(cudaErrorCapturedEvent);
    }
    if (event->recorded) run_until(event->position);
    throw_kept_failure();
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (!events.count(event)) return set_error(cudaErrorInvalidResourceHandle);
    if (event->capture) {
        event->capture->lost = true;
        return set_error(cudaErrorCapturedEvent);
    }
    if (!event->recorded || event->position.stream->executed >= event->position.count) return cudaSuccess;
    run_until({event->position.stream, event->position.stream->executed + 1});  // so that polling ends
    return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    for (cudaEvent_t event : {start, end}) {
        if (!events.count(event) || !event->timed || !event->recorded)
            return set_error(cudaErrorInvalidResourceHandle);
        if (event->position.stream->executed < event->position.count) return set_error(cudaErrorNotReady);
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
    const StreamPointer own = find_stream(stream);
    if (!own || !events.count(event)) return set_error(cudaErrorInvalidResourceHandle);
    if (event->capture && !event->capture->lost) {
        if (own->capture && own->capture != event->capture) return set_error(cudaErrorStreamCaptureIsolation);
        if (stream != event->captured_on) {
            own->capture = event->capture;  // a fork joins the capture; a join brings its work back
            if (const StreamPointer joined = find_stream(event->captured_on)) joined->unjoined = false;
            own->unjoined = true;
        }
        return cudaSuccess;
    }
    if (own->capture) return set_error(cudaErrorStreamCaptureIsolation);
    if (!event->recorded) return cudaSuccess;
    std::vector<Position> after = implied_order(stream);
    after.push_back(event->position);
    push(stream, {"cudaStreamWaitEvent", [] {}}, std::move(after));
    return cudaSuccess;
}

// ---- capture and graphs
// -----------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    const StreamPointer own = find_stream(stream);
    if (!own) return set_error(cudaErrorInvalidResourceHandle);
    if (!stream) return set_error(cudaErrorStreamCaptureUnsupported);
    if (own->capture) return set_error(cudaErrorInvalidValue);
    own->capture =
        std::make_shared<Capture>(Capture{.origin = stream, .mode = mode, .lost = false, .operations = {}});
    own->unjoined = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const StreamPointer own = find_stream(stream);
    if (!own || !graph) return set_error(cudaErrorInvalidValue);
    *graph = nullptr;
    const std::shared_ptr<Capture> capture = own->capture;
    if (!capture) return set_error(cudaErrorInvalidValue);
    if (capture->origin != stream) return set_error(cudaErrorStreamCaptureUnmatched);
    bool unjoined = false;
    for (const auto& [key, other] : streams())
        if (other->capture == capture) {
            unjoined |= key != stream && other->unjoined;
            other->capture = nullptr;
        }
    if (capture->lost) return set_error(cudaErrorStreamCaptureInvalidated);
    if (unjoined) return set_error(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{std::move(capture->operations)};
    graphs.insert(*graph);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const StreamPointer own = find_stream(stream);
    if (!own || !status) return set_error(cudaErrorInvalidValue);
    *status = !own->capture        ? cudaStreamCaptureStatusNone
              : own->capture->lost ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
    if (!executable || !graphs.count(graph) || flags != 0) return set_error(cudaErrorInvalidValue);
    *executable = new CUgraphExec_st{std::make_shared<const std::vector<Operation>>(graph->operations)};
    executables.insert(*executable);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    if (!executables.count(executable)) return set_error(cudaErrorInvalidValue);
    return enqueue(stream, {"cudaGraphLaunch", [operations = executable->operations] {
                                for (const Operation& operation : *operations) execute(operation);
                            }});
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    if (!executables.erase(executable)) return set_error(cudaErrorInvalidValue);
    delete executable;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (!graphs.erase(graph)) return set_error(cudaErrorInvalidValue);
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
    if (!graphs.count(graph) || nodes || !count) return set_error(cudaErrorInvalidValue);
    *count = graph->operations.size();
    return cudaSuccess;
}
