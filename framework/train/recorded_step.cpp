#include "framework/train/recorded_step.h"

#include <cstring>

#include "framework/core/error.h"

namespace sieve {
namespace {

// Enough for everything that is made once (tables, workspaces) and for the pool to hold a step's blocks.
constexpr int64_t steps_before_recording = 2;

}  // namespace

RecordedStep::RecordedStep(const Shape& batch_shape, Body body, bool record)
    : body_(std::move(body)),
      may_record_(record),
      pool_(cuda::device),
      stream_offset_(Tensor::zeros({}, DType::int64, cuda::device)),
      host_tokens_(batch_shape.numel()),
      host_targets_(batch_shape.numel()),
      host_stream_offset_(1),
      host_results_(3) {
    inputs_ = {.tokens = Tensor::zeros(batch_shape, DType::int32, cuda::device),
               .targets = Tensor::zeros(batch_shape, DType::int32, cuda::device),
               .stream_offset = reinterpret_cast<const uint64_t*>(stream_offset_.data<int64_t>())};
}

RecordedStep::~RecordedStep() {
    if (graph_) cuda::destroy_graph(graph_);
}

void RecordedStep::enqueue() {
    cuda::copy_from_pinned(inputs_.tokens.raw(), host_tokens_.data(), host_tokens_.bytes());
    cuda::copy_from_pinned(inputs_.targets.raw(), host_targets_.data(), host_targets_.bytes());
    cuda::copy_from_pinned(stream_offset_.raw(), host_stream_offset_.data(), host_stream_offset_.bytes());
    const MemoryPool::Scope scope(pool_);
    const StepOutputs outputs = body_(inputs_);
    cuda::copy_to_pinned(&host_results_[0], outputs.loss.raw(), outputs.loss.bytes());
    cuda::copy_to_pinned(&host_results_[1], outputs.grad_norm.raw(), outputs.grad_norm.bytes());
    cuda::copy_to_pinned(&host_results_[2], outputs.guard.raw(), outputs.guard.bytes());
}

// A recording that failed must be ended before its error goes on, or the stream stays unusable.
void RecordedStep::record() {
    cuda::begin_capture();
    try {
        enqueue();
    } catch (...) {
        try {
            cuda::destroy_graph(cuda::end_capture());
        } catch (const Error&) {
        }
        throw;
    }
    graph_ = cuda::end_capture();
}

StepValues RecordedStep::run(const Batch& batch, uint64_t stream_offset) {
    if (batch.tokens.shape() != inputs_.tokens.shape())
        fail("recorded step: the batch is " + to_string(batch.tokens.shape()) + ", want " +
             to_string(inputs_.tokens.shape()));
    std::memcpy(host_tokens_.data(), batch.tokens.data<int32_t>(), static_cast<size_t>(host_tokens_.bytes()));
    std::memcpy(host_targets_.data(), batch.targets.data<int32_t>(),
                static_cast<size_t>(host_targets_.bytes()));
    host_stream_offset_[0] = stream_offset;
    if (may_record_ && !graph_ && steps_ >= steps_before_recording) record();
    if (graph_)
        cuda::launch_graph(graph_);
    else
        enqueue();
    ++steps_;
    cuda::synchronize();
    return {host_results_[0], host_results_[1], host_results_[2]};
}

}  // namespace sieve
