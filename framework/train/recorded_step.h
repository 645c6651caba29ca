// A training step on a CUDA device: the host gives it a batch, and waits for it once.
//
// The first steps run launch by launch and fill the memory pool; the next one is recorded as a CUDA graph,
// which then runs again for every later step. So whatever changes from step to step must lie on the device:
// tokens and targets, the random streams' offset, the optimiser's learning rate (AdamW::prepare). The body
// itself is called for the first steps alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "framework/core/allocator.h"
#include "framework/core/cuda/pinned.h"
#include "framework/data/batches.h"

namespace sieve {

// What a step says: float64 scalars on its device.
struct StepOutputs {
    Tensor loss, grad_norm;
    Tensor guard;  // finite unless the step failed
};
// The same on the host.
struct StepValues {
    double loss, grad_norm, guard;
};

class RecordedStep {
  public:
    struct Inputs {
        Tensor tokens, targets;         // int32 [B,T], on the device
        const uint64_t* stream_offset;  // for Generator: on the device
    };
    // Gives one whole step to the stream without waiting for it, and keeps none of the tensors it made.
    using Body = std::function<StepOutputs(const Inputs&)>;

    // All batches have the shape [B,T]. `record` false: every step runs launch by launch (for tests).
    RecordedStep(const Shape& batch_shape, Body body, bool record = true);
    ~RecordedStep();
    RecordedStep(const RecordedStep&) = delete;
    RecordedStep& operator=(const RecordedStep&) = delete;

    // Runs the step and waits for its end.
    StepValues run(const Batch& batch, uint64_t stream_offset);
    bool recorded() const { return graph_ != nullptr; }

  private:
    void enqueue();
    void record();

    Body body_;
    bool may_record_;
    int64_t steps_ = 0;
    MemoryPool pool_;
    cuda::Graph* graph_ = nullptr;
    Inputs inputs_;
    Tensor stream_offset_;  // int64 scalar
    cuda::Pinned<int32_t> host_tokens_, host_targets_;
    cuda::Pinned<uint64_t> host_stream_offset_;
    cuda::Pinned<double> host_results_;
};

}  // namespace sieve
