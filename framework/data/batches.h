// Batches by number: batch(step) depends on the seed and the step alone. A run resumes by counting on from
// its step, and two models that ask for the same steps see the same tokens in the same order.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/core/tensor.h"
#include "framework/data/token_store.h"
#include "framework/data/windows.h"

namespace sieve {

struct Batch {
    Tensor tokens;   // int32 [B,T]
    Tensor targets;  // int32 [B,T]: tokens, one place later
};

// Training goes through all windows in an order shuffled anew each epoch, B at a time; a batch may hold the
// end of one epoch and the beginning of the next, so that every epoch meets each window exactly once. Keeps
// the order of the last epoch used: one object serves one thread.
class BatchSource {
  public:
    BatchSource(std::shared_ptr<const TokenStore> tokens, Windows windows, int64_t batch_size, uint64_t seed);

    Batch batch(int64_t step) const;       // step >= 0
    int64_t epoch_of(int64_t step) const;  // the epoch of the step's first window
    double steps_per_epoch() const;

    // The validation windows, each once: batches 0 .. validation_batches()-1, of which the last may be
    // smaller.
    int64_t validation_batches() const;
    Batch validation(int64_t index) const;

    const Windows& windows() const { return windows_; }
    int64_t batch_size() const { return batch_size_; }

  private:
    int64_t train_start(int64_t sample) const;
    Batch gather(const std::vector<int64_t>& starts) const;

    std::shared_ptr<const TokenStore> tokens_;
    Windows windows_;
    int64_t batch_size_;
    uint64_t seed_;
    mutable int64_t epoch_ = -1;          // whose order is in order_
    mutable std::vector<int64_t> order_;  // of the training windows
};

}  // namespace sieve
