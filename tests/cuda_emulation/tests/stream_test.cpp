// Streams, events, deferred execution, capture and graphs.
#include <cstring>

#include "cublas_v2.h"
#include "tests/cuda_emulation/tests/testing.h"

using namespace sieve;
using namespace sieve::emulation_testing;

namespace {

__global__ void add_kernel(int* x, int value) {
    *x += value;
}
__global__ void double_kernel(int* x) {
    *x *= 2;
}
__global__ void failing_kernel() {
    __trap();
}

struct Pinned {
    int* value = nullptr;
    Pinned() { REQUIRE(cudaMallocHost(&value, sizeof(int)) == cudaSuccess); }
    ~Pinned() { cudaFreeHost(value); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
};

struct Stream {
    cudaStream_t handle = nullptr;
    explicit Stream(unsigned flags = cudaStreamNonBlocking) {
        REQUIRE(cudaStreamCreateWithFlags(&handle, flags) == cudaSuccess);
    }
    ~Stream() { cudaStreamDestroy(handle); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
};

struct Event {
    cudaEvent_t handle = nullptr;
    Event() { REQUIRE(cudaEventCreate(&handle) == cudaSuccess); }
    ~Event() { cudaEventDestroy(handle); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
};

void add(int* x, int value, cudaStream_t stream) {
    launch(add_kernel, {.blocks = 1, .threads = 1, .stream = stream}, x, value);
}

const Grid one{.blocks = 1, .threads = 1};

}  // namespace

TEST_CASE("emulation: a read without a wait shows in deferred mode") {
    DeviceArray<int> x(std::vector<int>{1});
    const Stream stream;
    const Pinned result;
    for (bool wait : {false, true}) {
        const Deferred deferred;
        *result.value = -1;
        add(x.data(), 1, stream.handle);
        REQUIRE(cudaMemcpyAsync(result.value, x.data(), 4, cudaMemcpyDeviceToHost, stream.handle) ==
                cudaSuccess);
        if (wait) CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
        CHECK(*result.value == (wait ? 3 : -1));
    }
    *result.value = -1;
    cudaMemcpyAsync(result.value, x.data(), 4, cudaMemcpyDeviceToHost, stream.handle);
    CHECK(*result.value == 3);  // at once when not deferred
}

TEST_CASE("emulation: pinned memory is read late, other host memory before the copy returns") {
    DeviceArray<int> x(1);
    const Stream stream;
    const Pinned pinned;
    const Deferred deferred;
    int pageable = 5;
    *pinned.value = 5;
    cudaMemcpyAsync(x.data(), &pageable, 4, cudaMemcpyHostToDevice, stream.handle);
    pageable = 6;
    cudaMemcpyAsync(&pageable, x.data(), 4, cudaMemcpyDeviceToHost, stream.handle);
    CHECK(pageable == 5);
    cudaMemcpyAsync(x.data(), pinned.value, 4, cudaMemcpyHostToDevice, stream.handle);
    *pinned.value = 6;
    cudaStreamSynchronize(stream.handle);
    CHECK(x.host()[0] == 6);
}

TEST_CASE("emulation: an event orders two streams, nothing else does") {
    for (bool with_event : {false, true}) {
        DeviceArray<int> x(std::vector<int>{1});
        const Stream first, second;
        const Event event;
        const Pinned result;
        {
            const Deferred deferred;
            add(x.data(), 10, first.handle);
            cudaEventRecord(event.handle, first.handle);
            CHECK(cudaEventQuery(event.handle) == cudaErrorNotReady);
            cudaGetLastError();
            add(x.data(), 100, first.handle);
            if (with_event) CHECK(cudaStreamWaitEvent(second.handle, event.handle) == cudaSuccess);
            launch(double_kernel, {.blocks = 1, .threads = 1, .stream = second.handle}, x.data());
            cudaMemcpyAsync(result.value, x.data(), 4, cudaMemcpyDeviceToHost, second.handle);
            cudaStreamSynchronize(second.handle);
            // The query ran one operation of the first stream, as time passes on the device.
            CHECK(*result.value == 22);
            CHECK(cudaEventSynchronize(event.handle) == cudaSuccess);
            CHECK(cudaEventQuery(event.handle) == cudaSuccess);
            CHECK(cudaStreamQuery(first.handle) == cudaErrorNotReady);
            CHECK(cudaStreamQuery(first.handle) == cudaSuccess);
            cudaGetLastError();
        }
        CHECK(x.host()[0] == 122);
    }
    DeviceArray<int> x(std::vector<int>{1});
    const Stream first, second;
    const Event event;
    const Deferred deferred;
    for (bool with_event : {false, true}) {
        add(x.data(), 10, first.handle);
        cudaEventRecord(event.handle, first.handle);
        if (with_event) cudaStreamWaitEvent(second.handle, event.handle);
        launch(double_kernel, {.blocks = 1, .threads = 1, .stream = second.handle}, x.data());
        cudaStreamSynchronize(second.handle);
        cudaDeviceSynchronize();
        CHECK(x.host()[0] == (with_event ? (2 + 10 + 10) * 2 : 2 + 10));
    }
}

TEST_CASE("emulation: the default stream waits for blocking streams, not for others") {
    for (unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
        DeviceArray<int> x(std::vector<int>{1});
        const Stream stream(flags);
        const Deferred deferred;
        add(x.data(), 1, stream.handle);
        const int value = x.host()[0];  // cudaMemcpy uses the default stream
        CHECK(value == (flags == cudaStreamDefault ? 2 : 1));
        cudaDeviceSynchronize();
        launch(double_kernel, one, x.data());
        add(x.data(), 1, stream.handle);
        cudaStreamSynchronize(stream.handle);
        cudaDeviceSynchronize();
        CHECK(x.host()[0] == (flags == cudaStreamDefault ? 5 : 6));
    }
}

TEST_CASE("emulation: a kernel's error is thrown by the call that waits") {
    const Stream stream;
    {
        const Deferred deferred;
        launch(failing_kernel, {.blocks = 1, .threads = 1, .stream = stream.handle});
        CHECK(contains(error_of([&] { cudaStreamSynchronize(stream.handle); }), "__trap()"));
        CHECK(error_of([&] { cudaStreamSynchronize(stream.handle); }) == "");
        launch(failing_kernel, {.blocks = 1, .threads = 1, .stream = stream.handle});
        void* pointer = nullptr;
        cudaMalloc(&pointer, 4);
        CHECK(cudaFree(pointer) == cudaSuccess);  // it waits, and does not throw
        CHECK(contains(error_of([&] { cudaDeviceSynchronize(); }), "__trap()"));
    }
    CHECK(contains(error_of([] { launch(failing_kernel, one); }), "__trap()"));
    int no_stream = 0;
    CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&no_stream)) ==
          cudaErrorInvalidResourceHandle);
    cudaGetLastError();
}

TEST_CASE("emulation: events measure time") {
    const Event start, end;
    float milliseconds = -1;
    CHECK(cudaEventElapsedTime(&milliseconds, start.handle, end.handle) == cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    cudaEventRecord(start.handle);
    cudaEventRecord(end.handle);
    cudaEventSynchronize(end.handle);
    CHECK(cudaEventElapsedTime(&milliseconds, start.handle, end.handle) == cudaSuccess);
    CHECK(milliseconds >= 0);
}

TEST_CASE("emulation: capture records, replays run") {
    DeviceArray<int> x(std::vector<int>{1});
    const Stream stream;
    REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    cudaStreamCaptureStatus status{};
    cudaStreamIsCapturing(stream.handle, &status);
    CHECK(status == cudaStreamCaptureStatusActive);
    add(x.data(), 3, stream.handle);
    launch(double_kernel, {.blocks = 1, .threads = 1, .stream = stream.handle}, x.data());
    cudaMemsetAsync(x.data(), 0, 0, stream.handle);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
    CHECK(x.host()[0] == 1);
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
    CHECK(nodes == 2);
    cudaGraphExec_t executable = nullptr;
    REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    for (int replay = 0; replay < 2; ++replay)
        CHECK(cudaGraphLaunch(executable, stream.handle) == cudaSuccess);
    CHECK(x.host()[0] == ((1 + 3) * 2 + 3) * 2);
    CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
    CHECK(cudaGraphLaunch(executable, stream.handle) == cudaErrorInvalidValue);
    cudaGetLastError();
}

TEST_CASE("emulation: what a capture forbids loses it") {
    DeviceArray<int> x(1);
    const Stream stream, blocking(cudaStreamDefault);
    void* pointer = nullptr;
    int host = 0;
    const std::vector<std::pair<std::function<cudaError_t()>, cudaError_t>> calls = {
        {[&] { return cudaMalloc(&pointer, 4); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaFree(x.data()); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaMallocHost(&pointer, 4); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaStreamSynchronize(stream.handle); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaStreamQuery(stream.handle); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaDeviceSynchronize(); }, cudaErrorStreamCaptureUnsupported},
        {[&] { return cudaMemcpy(&host, x.data(), 4, cudaMemcpyDeviceToHost); },
         cudaErrorStreamCaptureUnsupported},
    };
    for (const auto& [call, want] : calls) {
        REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeGlobal) == cudaSuccess);
        CHECK(call() == want);
        cudaGraph_t graph = nullptr;
        CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureInvalidated);
        CHECK(graph == nullptr);
    }
    // Relaxed mode allows allocations.
    REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeRelaxed) == cudaSuccess);
    CHECK(cudaMalloc(&pointer, 4) == cudaSuccess);
    CHECK(cudaFree(pointer) == cudaSuccess);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
    cudaGraphDestroy(graph);
    // The default stream would have to wait for the captured one.
    REQUIRE(cudaStreamBeginCapture(blocking.handle, cudaStreamCaptureModeRelaxed) == cudaSuccess);
    CHECK(cudaMemsetAsync(x.data(), 0, 4) == cudaErrorStreamCaptureImplicit);
    CHECK(cudaStreamEndCapture(blocking.handle, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
}

TEST_CASE("emulation: a capture forks and joins by events") {
    for (bool join : {true, false}) {
        DeviceArray<int> x(std::vector<int>{1});
        const Stream origin, branch;
        const Event fork_event, join_event;
        REQUIRE(cudaStreamBeginCapture(origin.handle, cudaStreamCaptureModeGlobal) == cudaSuccess);
        add(x.data(), 1, origin.handle);
        cudaEventRecord(fork_event.handle, origin.handle);
        CHECK(cudaEventSynchronize(join_event.handle) == cudaSuccess);  // never recorded
        CHECK(cudaStreamWaitEvent(branch.handle, fork_event.handle) == cudaSuccess);
        launch(double_kernel, {.blocks = 1, .threads = 1, .stream = branch.handle}, x.data());
        cudaEventRecord(join_event.handle, branch.handle);
        if (join) CHECK(cudaStreamWaitEvent(origin.handle, join_event.handle) == cudaSuccess);
        cudaGraph_t graph = nullptr;
        CHECK(cudaStreamEndCapture(branch.handle, &graph) == cudaErrorStreamCaptureUnmatched);
        CHECK(cudaStreamEndCapture(origin.handle, &graph) ==
              (join ? cudaSuccess : cudaErrorStreamCaptureUnjoined));
        cudaGetLastError();
        if (!join) continue;
        cudaGraphExec_t executable = nullptr;
        REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
        cudaGraphLaunch(executable, origin.handle);
        CHECK(x.host()[0] == 4);
        cudaGraphExecDestroy(executable);
        cudaGraphDestroy(graph);
    }
}
